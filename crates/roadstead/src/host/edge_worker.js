export default {
  async fetch(request, env) {
    const file = (path) => {
      const escaped = path.split("/").map(encodeURIComponent).join("/");
      return env.ASSETS.fetch(new Request(new URL(escaped, request.url)));
    };
    return (await answer(request, file)) ?? env.ASSETS.fetch(request);
  },
};
