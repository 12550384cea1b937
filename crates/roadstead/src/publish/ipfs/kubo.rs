//! A node of Kubo, asked over its RPC API, `/api/v0/`: only what its address names, once each, since it answers 500 to every
//! refusal.
//!
//! Source: Kubo, "RPC API v0 reference".

mod address;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use ::cid::Cid;
use ::http::header::CONTENT_TYPE;
use ::http::{Method, StatusCode};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::{mpsc, oneshot};

pub use self::address::{ApiAddress, ApiAddressError};
use super::block::Link;
use super::car::Sink;
use super::pipeline::{self, WAITING};
use super::{Gathered, IpfsError, IpfsSite, Seen};
use crate::http::{Client, ClientOptions, HttpError};
use crate::oci::{Digest, excerpt};

/// The longest answer: a line for each pin, or for each half second of a long call.
const MAX_ANSWER: u64 = 64 << 20;

/// How many questions are asked at once.
const QUESTIONS_AT_ONCE: usize = 16;

/// What is smaller is sent without asking.
const WORTH_A_QUESTION: u64 = 64 << 10;

/// How long to wait before a pinning service is asked again.
const BETWEEN_QUESTIONS: Duration = Duration::from_secs(2);

/// Why a node didn't do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KuboError {
    /// No answer came.
    #[error("the node at {node} can't be asked for {command}")]
    Http {
        /// The address.
        node: String,
        /// What it was asked for.
        command: &'static str,
        /// Why.
        #[source]
        source: HttpError,
    },
    /// It says no.
    #[error("the node at {node} refuses {command}: {said}")]
    Refused {
        /// The address.
        node: String,
        /// What it was asked for.
        command: &'static str,
        /// The status of its answer.
        status: u16,
        /// What it says.
        said: String,
    },
    /// It says something that makes no sense.
    #[error("the node at {node} answers {command} with something else: {problem}")]
    Answer {
        /// The address.
        node: String,
        /// What it was asked for.
        command: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// Something else is where a site was to be put.
    #[error("the node at {node} has something at {path} that is no site: name another path")]
    Foreign {
        /// The address.
        node: String,
        /// The path.
        path: String,
    },
    /// A pinning service gave up.
    #[error("the pinning service {service} failed to pin {cid}")]
    RemotePin {
        /// The service, as the node calls it.
        service: String,
        /// What was to be pinned.
        cid: String,
    },
}

/// A node.
#[derive(Debug, Clone)]
pub struct Kubo {
    client: Client,
    options: ClientOptions,
    address: ApiAddress,
}

/// What a node was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Sent {
    /// How many blocks.
    pub blocks: u64,
    /// The bytes of the archive that they came in.
    pub bytes: u64,
    /// How many contents were left out, since the node had them.
    pub present: u64,
}

/// How a site is kept on a node.
#[derive(Debug, Clone)]
pub struct Pin<'a> {
    /// What the pin is called.
    pub name: &'a str,
    /// Whether other pins of this name are removed afterwards.
    pub alone: bool,
}

/// What a pinning service says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RemotePin {
    /// It will see to it.
    Queued,
    /// It fetches the blocks.
    Pinning,
    /// It has them all.
    Pinned,
    /// It gave up.
    Failed,
}

impl Kubo {
    /// A node at an address. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// If the options can't be used.
    pub fn new(mut options: ClientOptions, address: ApiAddress) -> Result<Self, HttpError> {
        options.retry.attempts = 1;
        Ok(Self { client: Client::new(options.clone())?, options, address })
    }

    /// What version it says it is.
    ///
    /// # Errors
    ///
    /// If it isn't there, or isn't such a node.
    pub async fn version(&self) -> Result<String, KuboError> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Version {
            version: String,
        }
        let answer = self.call("version", &[]).await?;
        let Version { version } = self.read("version", &answer)?;
        Ok(version)
    }

    /// Sends what the node lacks of a site, which was gathered before. Unless `all` is sent, larger contents whose root the node
    /// has are taken to be there: pinning shows whether they are.
    ///
    /// # Errors
    ///
    /// If the tree can't be read, or the node doesn't take it; [`IpfsError::Changing`] if the tree is another one by now.
    pub async fn send(
        &self,
        site: &IpfsSite,
        expected: &Gathered,
        all: bool,
        seen: Seen<'_>,
    ) -> Result<Sent, IpfsError> {
        let mut present = HashMap::new();
        if !all {
            if self.has(&expected.root.cid).await? {
                return Ok(Sent { present: expected.contents.len() as u64, ..Sent::default() });
            }
            present = self.present(&expected.contents).await?;
        }
        let sent = Sent { present: present.len() as u64, ..Sent::default() };
        let made = self.import(site, &expected.root.cid, present, seen).await?;
        if made.root.cid != expected.root.cid {
            return Err(IpfsError::Changing);
        }
        Ok(Sent { blocks: made.blocks, bytes: made.bytes, ..sent })
    }

    /// Which of these contents it has, as far as their first block tells.
    async fn present(&self, contents: &HashMap<Digest, Link>) -> Result<HashMap<Digest, Link>, KuboError> {
        let large = contents.iter().filter(|(_, link)| link.content >= WORTH_A_QUESTION);
        let asked = large.map(async |(digest, link)| Ok(self.has(&link.cid).await?.then_some((*digest, *link))));
        let answers = stream::iter(asked).buffer_unordered(QUESTIONS_AT_ONCE);
        answers.try_filter_map(async |found| Ok(found)).try_collect().await
    }

    /// Whether it has a block, without looking for it elsewhere.
    async fn has(&self, cid: &Cid) -> Result<bool, KuboError> {
        match self.call("block/stat", &[("arg", &cid.to_string()), ("offline", "true")]).await {
            Ok(_) => Ok(true),
            Err(KuboError::Refused { said, .. }) if said.contains("not found") || said.contains("could not find") => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends blocks as they are made.
    async fn import(
        &self,
        site: &IpfsSite,
        root: &Cid,
        present: HashMap<Digest, Link>,
        seen: Seen<'_>,
    ) -> Result<Gathered, IpfsError> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Line {
            stats: Option<Stats>,
        }
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Stats {
            block_count: u64,
        }
        const COMMAND: &str = "dag/import";
        let (to_node, mut from_maker) = mpsc::channel(WAITING);
        let (ended, end) = oneshot::channel();
        let making = async {
            let made = pipeline::run(site, Sink::archive(to_node, root), present, seen).await;
            if made.is_ok() {
                // Whoever is gone has an error of its own to tell.
                let _ = ended.send(());
            }
            made
        };
        // Nobody who made a layer could know it.
        let boundary = format!("roadstead-{:032x}", fastrand::u128(..));
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"site.car\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let tail = format!("\r\n--{boundary}--\r\n");
        let pieces = stream::iter([Ok(Bytes::from(head))])
            .chain(stream::poll_fn(move |context| from_maker.poll_recv(context)).map(Ok))
            .chain(stream::once(async { end.await.map(|()| Bytes::from(tail)).map_err(|_| IpfsError::BrokenOff) }));
        let request = self.request(COMMAND, &[("pin-roots", "false"), ("stats", "true")]);
        let request = request.header(CONTENT_TYPE, format!("multipart/form-data; boundary={boundary}"));
        let request = request.body(()).expect("all parts are valid");
        let (made, answered) = futures::join!(making, self.client.fetch_with_stream(request, pieces, MAX_ANSWER));
        let made = match made {
            Err(IpfsError::BrokenOff) => None,
            made => Some(made?),
        };
        let answer = self.accept(COMMAND, answered?)?;
        let problem = |problem: String| KuboError::Answer { node: self.address.to_string(), command: COMMAND, problem };
        let made = made.ok_or_else(|| problem("it says that all is well before it had everything".to_owned()))?;
        let mut taken = None;
        for line in answer.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let Line { stats } = self.read(COMMAND, line)?;
            taken = stats.map(|stats| stats.block_count).or(taken);
        }
        match taken {
            Some(taken) if taken == made.blocks => Ok(made),
            Some(taken) => Err(problem(format!("it took {taken} blocks of {}", made.blocks)).into()),
            // What went wrong after its answer began is not said in it.
            None => Err(problem("its answer ends before it says how many blocks it took".to_owned()).into()),
        }
    }

    /// Keeps a site on the node, if all of it is there: nothing is looked for elsewhere.
    ///
    /// # Errors
    ///
    /// If the node doesn't answer, or lacks a block.
    pub async fn pin(&self, site: &Gathered, pin: &Pin<'_>) -> Result<(), KuboError> {
        let root = site.root();
        let what = [("arg", root.as_str()), ("name", pin.name), ("offline", "true")];
        // It reads all blocks, and says how far it is, so that it is seen to be alive. Why it failed isn't said then.
        let slowly = self.call("pin/add", &[&what[..], &[("progress", "true")]].concat()).await?;
        if !slowly.windows(7).any(|window| window == b"\"Pins\":") || slowly.windows(11).any(|w| w == b"\"Pins\":null")
        {
            self.call("pin/add", &what).await?;
        }
        if pin.alone {
            for other in self.pins(pin.name).await? {
                if other != site.root.cid {
                    self.call("pin/rm", &[("arg", &other.to_string())]).await?;
                }
            }
        }
        Ok(())
    }

    /// What is pinned under a name.
    async fn pins(&self, name: &str) -> Result<Vec<Cid>, KuboError> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Pins {
            #[serde(default)]
            keys: BTreeMap<String, Pinned>,
        }
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Pinned {
            #[serde(default)]
            name: String,
        }
        let answer = self.call("pin/ls", &[("type", "recursive"), ("names", "true"), ("name", name)]).await?;
        let Pins { keys } = self.read("pin/ls", &answer)?;
        // The node also finds names that only begin so.
        let named = keys.into_iter().filter(|(_, pinned)| pinned.name == name);
        Ok(named.filter_map(|(cid, _)| cid.parse().ok()).collect())
    }

    /// Gives a site a path among the node's own files, in place of a site that is there.
    ///
    /// # Errors
    ///
    /// [`KuboError::Foreign`] if something else is there; or if the node doesn't do it.
    pub async fn put_at(&self, site: &Gathered, path: &str) -> Result<(), KuboError> {
        let path = path.trim_end_matches('/');
        if self.is_at(path).await? && !self.is_at(&format!("{path}/v2/_catalog")).await? {
            return Err(KuboError::Foreign { node: self.address.to_string(), path: path.to_owned() });
        }
        let from = format!("/ipfs/{}", site.root());
        // The node can't replace a folder. Beside it first, so that the time is short in which there is none.
        let beside = format!("{path}.roadstead-new");
        self.remove_at(&beside).await?;
        self.call("files/cp", &[("arg", &from), ("arg", &beside), ("parents", "true")]).await?;
        self.remove_at(path).await?;
        self.call("files/mv", &[("arg", &beside), ("arg", path)]).await?;
        self.call("files/flush", &[("arg", path)]).await?;
        Ok(())
    }

    async fn is_at(&self, path: &str) -> Result<bool, KuboError> {
        match self.call("files/stat", &[("arg", path)]).await {
            Ok(_) => Ok(true),
            Err(KuboError::Refused { said, .. }) if said.contains("does not exist") => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn remove_at(&self, path: &str) -> Result<(), KuboError> {
        if self.is_at(path).await? {
            self.call("files/rm", &[("arg", path), ("recursive", "true")]).await?;
        }
        Ok(())
    }

    /// Has a pinning service, which the node knows by a name, keep a site. `wait` until it has all of it; else what it says at
    /// first is returned.
    ///
    /// # Errors
    ///
    /// If the node or the service doesn't do that.
    pub async fn pin_remotely(
        &self,
        site: &Gathered,
        service: &str,
        name: &str,
        wait: bool,
    ) -> Result<RemotePin, KuboError> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Said {
            status: String,
        }
        const ADD: &str = "pin/remote/add";
        const LIST: &str = "pin/remote/ls";
        let root = site.root();
        let failed = || KuboError::RemotePin { service: service.to_owned(), cid: root.clone() };
        let state = |command, said: &Said| match said.status.as_str() {
            "queued" => Ok(RemotePin::Queued),
            "pinning" => Ok(RemotePin::Pinning),
            "pinned" => Ok(RemotePin::Pinned),
            "failed" => Err(failed()),
            other => Err(KuboError::Answer {
                node: self.address.to_string(),
                command,
                problem: format!("there is no status {:?} of a pin", excerpt(other)),
            }),
        };
        let what = [("arg", root.as_str()), ("service", service), ("name", name), ("background", "true")];
        let mut said = state(ADD, &self.read(ADD, &self.call(ADD, &what).await?)?)?;
        while wait && said != RemotePin::Pinned {
            self.options.clock.sleep(BETWEEN_QUESTIONS).await;
            let states = ["queued", "pinning", "pinned", "failed"].map(|state| ("status", state));
            let what = [&[("service", service), ("cid", root.as_str())][..], &states].concat();
            let answer = self.call(LIST, &what).await?;
            let mut states = Vec::new();
            for line in answer.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                states.push(state(LIST, &self.read(LIST, line)?));
            }
            // An earlier pin of the same may have failed.
            let best =
                states.into_iter().reduce(|one, other| if matches!(one, Ok(RemotePin::Pinned)) { one } else { other });
            said = best.ok_or_else(failed)??;
        }
        Ok(said)
    }

    fn request(&self, command: &str, arguments: &[(&str, &str)]) -> ::http::request::Builder {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let uri = format!("{}/api/v0/{command}?{}", self.address, query.extend_pairs(arguments).finish());
        ::http::Request::builder().method(Method::POST).uri(uri)
    }

    async fn call(&self, command: &'static str, arguments: &[(&str, &str)]) -> Result<Bytes, KuboError> {
        let request = self.request(command, arguments).body(Bytes::new()).expect("all parts are valid");
        self.accept(command, self.client.fetch(request, MAX_ANSWER).await)
    }

    fn accept(
        &self,
        command: &'static str,
        answered: Result<::http::Response<Bytes>, HttpError>,
    ) -> Result<Bytes, KuboError> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Refusal {
            message: String,
        }
        let node = || self.address.to_string();
        let answer = answered.map_err(|source| KuboError::Http { node: node(), command, source })?;
        if answer.status() == StatusCode::OK {
            return Ok(answer.into_body());
        }
        let said = match serde_json::from_slice::<Refusal>(answer.body()) {
            Ok(Refusal { message }) => message,
            Err(_) => format!("{} {}", answer.status(), String::from_utf8_lossy(answer.body()).trim()),
        };
        let printable: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Err(KuboError::Refused { node: node(), command, status: answer.status().as_u16(), said: excerpt(&printable) })
    }

    fn read<'a, T: serde::Deserialize<'a>>(&self, command: &'static str, answer: &'a [u8]) -> Result<T, KuboError> {
        serde_json::from_slice(answer).map_err(|error| KuboError::Answer {
            node: self.address.to_string(),
            command,
            problem: error.to_string(),
        })
    }
}
