//! The XML that buckets of the S3 API speak: what its answers mean, and the one request that has a body.
//!
//! Source: Amazon S3 API reference.

use serde::Deserialize;

use super::super::Md5;
use super::listing;

/// The most bytes of an answer: a page of a list has a thousand keys of a kilobyte, each character perhaps encoded.
pub(super) const MAX_ANSWER: u64 = 16 << 20;

/// What is wrong, in the service's words.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Fault {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) region: Option<String>,
}

/// A page of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Page {
    encoding_type: Option<String>,
    contents: Vec<Content>,
    common_prefixes: Vec<Prefix>,
    is_truncated: bool,
    next_continuation_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Content {
    key: String,
    #[serde(default)]
    size: u64,
    #[serde(rename = "ETag", default)]
    etag: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Prefix {
    prefix: String,
}

impl From<Page> for listing::Page {
    fn from(page: Page) -> Self {
        // Some services know no encoding and say nothing of one.
        let encoded = page.encoding_type.as_deref() == Some("url");
        let name = |name: String| if encoded { decode(&name) } else { name };
        let object = |Content { key, size, etag }| listing::Named { name: name(key), size, md5: Md5::of_tag(&etag) };
        Self {
            objects: page.contents.into_iter().map(object).collect(),
            prefixes: page.common_prefixes.into_iter().map(|Prefix { prefix }| name(prefix)).collect(),
            next: page.next_continuation_token.filter(|_| page.is_truncated),
        }
    }
}

/// Undoes the encoding of forms, in which a space may be a plus. What isn't encoded well stays as it is.
fn decode(text: &str) -> String {
    let text = text.as_bytes();
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let digits = text.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        let (meant, length) = match (byte, digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(encoded)) => (encoded, 3),
            (b'+', _) => (b' ', 1),
            (byte, _) => (*byte, 1),
        };
        bytes.push(meant);
        at += length;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The answer to the beginning of an upload in parts.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Begun {
    pub(super) upload_id: String,
}

/// Uploads in parts that were begun.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Uploads {
    pub(super) upload: Vec<Begin>,
}

/// One of them.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Begin {
    pub(super) key: String,
    pub(super) upload_id: String,
}

/// Parts of an upload that are there.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Parts {
    pub(super) part: Vec<Part>,
    pub(super) is_truncated: bool,
    pub(super) next_part_number_marker: Option<String>,
}

/// One of them.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Part {
    pub(super) part_number: usize,
    #[serde(rename = "ETag")]
    pub(super) etag: String,
}

/// The answer to a copy of a part.
#[derive(Debug, Deserialize)]
pub(super) struct Copied {
    #[serde(rename = "ETag")]
    pub(super) etag: String,
}

/// Reads an answer.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    quick_xml::de::from_str(unmarked(text)).map_err(|error| error.to_string())
}

/// A document without the mark that Azure's begin with.
fn unmarked(text: &str) -> &str {
    text.trim_start_matches('\u{feff}')
}

/// What is wrong, if that is what an answer says. A status of 200 doesn't mean much where a service began to answer before it
/// began to work.
pub(super) fn fault(bytes: &[u8]) -> Option<Fault> {
    let text = unmarked(std::str::from_utf8(bytes).ok()?);
    let root =
        text.trim_start().strip_prefix("<?xml").map_or(text, |rest| rest.split_once("?>").map_or("", |(_, b)| b));
    root.trim_start().starts_with("<Error").then(|| quick_xml::de::from_str(text).unwrap_or_default())
}

/// The request that puts parts together.
pub(super) fn complete(etags: &[String]) -> String {
    let part = |(number, etag): (usize, &String)| {
        let etag = quick_xml::escape::escape(etag.as_str());
        format!("<Part><PartNumber>{}</PartNumber><ETag>{etag}</ETag></Part>", number + 1)
    };
    let parts: String = etags.iter().enumerate().map(part).collect();
    format!(
        r#"<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{parts}</CompleteMultipartUpload>"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        let text = r#"<?xml version="1.0" encoding="UTF-8"?>
            <ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><EncodingType>url</EncodingType>
            <Contents><Key>v2/a+b%2Bc</Key><Size>1</Size></Contents><CommonPrefixes><Prefix>v2/x/</Prefix></CommonPrefixes>
            <Contents><Key>v2/%E6%97%A5</Key></Contents><IsTruncated>true</IsTruncated>
            <NextContinuationToken>t</NextContinuationToken></ListBucketResult>"#;
        let page: listing::Page = read::<Page>(text.as_bytes()).unwrap().into();
        let names: Vec<_> = page.objects.iter().map(|object| (object.name.as_str(), object.size)).collect();
        assert_eq!(names, [("v2/a b+c", 1), ("v2/日", 0)]);
        assert_eq!((page.prefixes, page.next), (vec!["v2/x/".to_owned()], Some("t".to_owned())));
        let empty: Page = read(b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>").unwrap();
        let empty = listing::Page::from(empty);
        assert_eq!((empty.objects.len(), empty.prefixes.len(), empty.next), (0, 0, None));
        assert!(read::<Page>(b"<ListBucketResult>").is_err());
        assert!(read::<Begun>(b"<html/>").is_err());
    }

    #[test]
    fn what_is_not_encoded_stays() {
        for (text, meant) in [("%", "%"), ("%zz", "%zz"), ("a%3", "a%3"), ("%41", "A")] {
            assert_eq!(decode(text), meant);
        }
    }

    #[test]
    fn faults_are_told_from_answers() {
        let said =
            fault(b"<?xml version=\"1.0\"?>\n<Error><Code>SlowDown</Code><Message>less</Message></Error>").unwrap();
        assert_eq!((said.code.as_str(), said.message.as_str()), ("SlowDown", "less"));
        assert!(fault(b"<CopyObjectResult><ETag>x</ETag></CopyObjectResult>").is_none());
        assert!(fault(b"").is_none());
        let marked = "\u{feff}<?xml version=\"1.0\"?><Error><Code>ServerBusy</Code></Error>";
        assert_eq!(fault(marked.as_bytes()).unwrap().code, "ServerBusy");
    }
}
