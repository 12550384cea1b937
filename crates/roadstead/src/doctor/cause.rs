//! What can be wrong, each with a code that stays what it is.

use super::question::Question;

macro_rules! causes {
    ($(#[doc = $doc:literal] $name:ident = $code:literal,)+) => {
        /// What is wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Cause {
            $(#[doc = $doc] $name,)+
        }

        impl Cause {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The code, which stays what it is from version to version.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)+
                }
            }

            /// What it is, in one sentence.
            #[must_use]
            pub fn means(self) -> &'static str {
                match self {
                    $(Self::$name => $doc.trim(),)+
                }
            }
        }
    };
}

causes! {
    /// No such host, nobody listens, or the connection breaks.
    Unreachable = "unreachable",
    /// TLS fails.
    Tls = "tls",
    /// The host is asked with TLS, and speaks none.
    NoTls = "no-tls",
    /// Nothing comes within the time limit.
    Stalled = "stalled",
    /// Whatever answers knows no path of a registry.
    NotARegistry = "not-a-registry",
    /// A login is wanted, or the one that was given is refused.
    Login = "login",
    /// 403 for what is wanted.
    Forbidden = "forbidden",
    /// 404 for what is wanted.
    Absent = "absent",
    /// 429.
    RateLimited = "rate-limited",
    /// Another status that is no success.
    Status = "status",
    /// `HEAD` is refused where `GET` is not.
    HeadRefused = "head-refused",
    /// Redirects that end nowhere.
    RedirectLoop = "redirect-loop",
    /// A redirect that says nothing of where to, or that nobody may follow.
    RedirectRefused = "redirect-refused",
    /// A redirect from https to http.
    RedirectLeavesTls = "redirect-leaves-tls",
    /// A manifest without `Content-Type`.
    TypeMissing = "type-missing",
    /// A manifest with a type that isn't its own.
    TypeWrong = "type-wrong",
    /// A manifest with parameters behind its type.
    TypeParameters = "type-parameters",
    /// Nothing can be done about it by headers: a kind of manifest that the client doesn't know.
    KindUnknown = "kind-unknown",
    /// No `Docker-Content-Digest`.
    DigestHeaderMissing = "digest-header-missing",
    /// A `Docker-Content-Digest` that is no digest.
    DigestHeaderMalformed = "digest-header-malformed",
    /// A `Docker-Content-Digest` of other content.
    DigestHeaderWrong = "digest-header-wrong",
    /// No `Content-Length`.
    LengthMissing = "length-missing",
    /// `HEAD` gives another length than `GET`.
    LengthWrong = "length-wrong",
    /// `HEAD` and `GET` of a tag are of different images.
    TagStale = "tag-stale",
    /// A tag that caches keep for long.
    TagCached = "tag-cached",
    /// The answer depends on how `Accept` is written.
    AcceptSplit = "accept-split",
    /// What comes is no manifest.
    NotAManifest = "not-a-manifest",
    /// More bytes than a manifest can have.
    TooLarge = "too-large",
    /// The bytes are not those that the digest names.
    Damaged = "damaged",
    /// Fewer or more bytes than the descriptor says.
    SizeWrong = "size-wrong",
    /// The body ends before its end.
    Cut = "cut",
    /// A blob that is kept with a `Content-Encoding`.
    Encoded = "encoded",
    /// A blob or manifest that is compressed on its way.
    EncodedOnTheWay = "encoded-on-the-way",
    /// A manifest that an index names is not there.
    ChildAbsent = "child-absent",
    /// No image for the platform.
    PlatformAbsent = "platform-absent",
    /// `Range` is ignored.
    RangeIgnored = "range-ignored",
    /// `Range` is answered wrongly.
    RangeWrong = "range-wrong",
    /// The question for referrers is answered with what breaks clients.
    Referrers = "referrers",
    /// What is missing is answered with 200.
    MissingAnswered = "missing-answered",
    /// What is missing is answered with 401 or 403.
    MissingForbidden = "missing-forbidden",
    /// What is missing is answered with another status than 404.
    MissingStatus = "missing-status",
    /// The list of tags is no list of tags.
    TagsWrong = "tags-wrong",
    /// A colon works only as it is.
    ColonEscaped = "colon-escaped",
    /// HTTP/1.0.
    Http10 = "http-1.0",
    /// The host has an IPv6 address where nobody answers.
    Ipv6 = "ipv6",
    /// The host's clock is wrong, or this machine's.
    ClockSkew = "clock-skew",
    /// The question was not asked, since there had been too many.
    NotAsked = "not-asked",
}

/// What is wrong with one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub cause: Cause,
    /// The question. How `Accept` was written makes no difference: what fails by that is a finding of its own.
    pub question: Question,
    /// One sentence about it, without the full stop.
    pub says: String,
}

impl Finding {
    pub(super) fn new(cause: Cause, question: &Question, says: impl Into<String>) -> Self {
        Self { cause, question: question.in_one_line(), says: says.into() }
    }
}
