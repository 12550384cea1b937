//! How often each client may do something.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many clients are told apart. Those beyond share one allowance.
const MAX_CLIENTS: usize = 65_536;

/// So many times at once, and then once in so long.
pub(in super::super) struct Pace {
    every: Duration,
    burst: u32,
    /// When what a client has used is forgotten.
    used: Mutex<HashMap<IpAddr, Instant>>,
}

impl Pace {
    pub(in super::super) fn new(every: Duration, burst: u32) -> Self {
        Self { every, burst, used: Mutex::default() }
    }

    /// So many a second, and twice as many at once.
    pub(in super::super) fn per_second(count: u32) -> Self {
        Self::new(Duration::from_secs(1) / count.max(1), count.max(1).saturating_mul(2))
    }

    /// Whether a client may do it now.
    pub(in super::super) fn allows(&self, client: IpAddr, now: Instant) -> bool {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        self.fits(used.get(&key(&used, client)).copied(), now)
    }

    /// Notes that a client does it, if it may. Returns whether it may.
    pub(in super::super) fn take(&self, client: IpAddr, now: Instant) -> bool {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= MAX_CLIENTS {
            used.retain(|_, until| *until > now);
        }
        let key = key(&used, client);
        let before = used.get(&key).copied();
        let fits = self.fits(before, now);
        if fits {
            used.insert(key, before.filter(|until| *until > now).unwrap_or(now) + self.every);
        }
        fits
    }

    fn fits(&self, until: Option<Instant>, now: Instant) -> bool {
        until.is_none_or(|until| until.saturating_duration_since(now) <= self.every * (self.burst - 1))
    }
}

/// Under what a client is counted: of an IPv6 address, the network that one customer has.
fn key(used: &HashMap<IpAddr, Instant>, client: IpAddr) -> IpAddr {
    let one = match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    };
    if used.len() < MAX_CLIENTS || used.contains_key(&one) { one } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// How many requests with content each client has running.
#[derive(Default)]
pub(in super::super) struct Running(Mutex<HashMap<String, usize>>);

/// One of them, for as long as it is held.
pub(in super::super) struct Turn<'a> {
    running: &'a Running,
    client: String,
}

impl Running {
    /// Lets one more run, if not as many do already.
    pub(in super::super) fn begin(&self, client: String, limit: usize) -> Option<Turn<'_>> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = running.entry(client.clone()).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        drop(running);
        Some(Turn { running: self, client })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut running = self.running.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_own_allowance() {
        let pace = Pace::new(Duration::from_secs(10), 3);
        let start = Instant::now();
        let [a, b] = ["1.1.1.1", "2.2.2.2"].map(|text| text.parse::<IpAddr>().unwrap());
        let taken: Vec<bool> = (0..5).map(|_| pace.take(a, start)).collect();
        assert_eq!(taken, [true, true, true, false, false]);
        assert!(pace.take(b, start));
        assert!(!pace.allows(a, start));
        let later = start + Duration::from_secs(10);
        assert!(pace.allows(a, later) && pace.take(a, later) && !pace.take(a, later));
        assert!(pace.take(a, start + Duration::from_hours(1)));
    }

    #[test]
    fn a_network_is_one_client_and_many_share() {
        let pace = Pace::new(Duration::from_secs(10), 1);
        let now = Instant::now();
        assert!(pace.take("2001:db8::1".parse().unwrap(), now));
        assert!(!pace.take("2001:db8::2".parse().unwrap(), now));
        assert!(pace.take("2001:db8:0:1::2".parse().unwrap(), now));
        for number in 0..u32::try_from(MAX_CLIENTS).unwrap() {
            pace.take(IpAddr::from(number.to_be_bytes()), now);
        }
        assert!(pace.used.lock().unwrap().len() <= MAX_CLIENTS + 1);
    }
}
