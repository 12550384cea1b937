use std::sync::Arc;

use roadstead::http::{Client, ClientOptions};
use roadstead::store::BucketStore;
use roadstead::store::bucket::{BucketOptions, Keys};
use roadstead::testing::TestClock;
use roadstead_parts::Buckets;

/// Who may do everything on the servers of the tests.
pub(crate) fn keys() -> Keys {
    Keys { id: Buckets::ID.to_owned(), secret: Buckets::SECRET.into(), token: None }
}

pub(crate) fn options(endpoint: &str) -> BucketOptions {
    BucketOptions {
        endpoint: Some(endpoint.to_owned()),
        credentials: Some(Arc::new(keys())),
        ..BucketOptions::default()
    }
}

/// The store in a bucket, or below a prefix of one.
pub(crate) fn open(at: &str, options: BucketOptions) -> BucketStore {
    let client = Client::new(ClientOptions::default()).unwrap();
    BucketStore::open(at.parse().unwrap(), client, options).unwrap()
}

/// A client that doesn't wait.
pub(crate) fn impatient() -> Client {
    Client::new(ClientOptions { clock: Arc::new(TestClock::default()), ..ClientOptions::default() }).unwrap()
}
