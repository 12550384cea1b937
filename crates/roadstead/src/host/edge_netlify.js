export default async function registry(request, context) {
  const file = (path) => {
    const escaped = path.split("/").map(encodeURIComponent).join("/").replaceAll("%3A", ":");
    return context.next(new Request(new URL(escaped, request.url)));
  };
  return answer(request, file);
}

export const config = { path: ["/v2", "/v2/*"] };
