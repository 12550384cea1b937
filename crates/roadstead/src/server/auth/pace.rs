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
    ///
    /// # Errors
    ///
    /// If it may not, after what time it may.
    pub(in super::super) fn allows(&self, client: IpAddr, now: Instant) -> Result<(), Duration> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        self.fits(used.get(&key(&used, client)).copied(), now)
    }

    /// Notes that a client does it, if it may.
    ///
    /// # Errors
    ///
    /// If it may not, after what time it may.
    pub(in super::super) fn take(&self, client: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= MAX_CLIENTS {
            used.retain(|_, until| *until > now);
        }
        let key = key(&used, client);
        let before = used.get(&key).copied();
        self.fits(before, now)?;
        used.insert(key, before.filter(|until| *until > now).unwrap_or(now) + self.every);
        Ok(())
    }

    fn fits(&self, until: Option<Instant>, now: Instant) -> Result<(), Duration> {
        let used = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        let wait = used.saturating_sub(self.every * (self.burst - 1));
        if wait.is_zero() { Ok(()) } else { Err(wait) }
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
        let seconds = Duration::from_secs;
        let taken: Vec<_> = (0..5).map(|_| pace.take(a, start)).collect();
        assert_eq!(taken, [Ok(()), Ok(()), Ok(()), Err(seconds(10)), Err(seconds(10))]);
        assert_eq!(pace.take(b, start), Ok(()));
        assert_eq!(pace.allows(a, start + seconds(3)), Err(seconds(7)));
        let later = start + seconds(10);
        assert_eq!([pace.allows(a, later), pace.take(a, later)], [Ok(()); 2]);
        assert_eq!(pace.take(a, later), Err(seconds(10)));
        assert_eq!(pace.take(a, start + Duration::from_hours(1)), Ok(()));
    }

    #[test]
    fn a_network_is_one_client_and_many_share() {
        let pace = Pace::new(Duration::from_secs(10), 1);
        let now = Instant::now();
        let take = |text: &str| pace.take(text.parse().unwrap(), now).is_ok();
        assert!(take("2001:db8::1") && !take("2001:db8::2") && take("2001:db8:0:1::2"));
        for number in 0..u32::try_from(MAX_CLIENTS).unwrap() {
            let _ = pace.take(IpAddr::from(number.to_be_bytes()), now);
        }
        assert!(pace.used.lock().unwrap().len() <= MAX_CLIENTS + 1);
    }
}
