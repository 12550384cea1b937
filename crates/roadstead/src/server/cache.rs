//! A bounded memory of what is expensive to make again.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// Values by key, at most `limit` bytes of them by the weights that their owner gives.
///
/// Two generations approximate "least recently used": what is asked for moves to the young one, and when that holds half
/// of the limit, it becomes the old one and what was old is dropped. An exact list would reorder on every hit; here a
/// hit in the young generation writes nothing.
pub(super) struct Cache<K, V> {
    limit: usize,
    generations: Mutex<Generations<K, V>>,
}

struct Generations<K, V> {
    young: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    young_weight: usize,
}

impl<K: Eq + Hash + Clone, V: Clone> Cache<K, V> {
    pub(super) fn new(limit: usize) -> Self {
        let generations = Generations { young: HashMap::new(), old: HashMap::new(), young_weight: 0 };
        Self { limit, generations: Mutex::new(generations) }
    }

    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((value, _)) = generations.young.get(key) {
            return Some(value.clone());
        }
        let (key, (value, weight)) = generations.old.remove_entry(key)?;
        generations.insert(key, value.clone(), weight, self.limit);
        Some(value)
    }

    /// Remembers a value, unless it alone would take the place of everything else.
    pub(super) fn insert(&self, key: K, value: V, weight: usize) {
        if weight <= self.limit / 2 {
            let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
            generations.insert(key, value, weight, self.limit);
        }
    }
}

impl<K: Eq + Hash, V> Generations<K, V> {
    fn insert(&mut self, key: K, value: V, weight: usize, limit: usize) {
        if self.young_weight + weight > limit / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_weight = 0;
        }
        self.old.remove(&key);
        self.young_weight += weight;
        if let Some((_, replaced)) = self.young.insert(key, (value, weight)) {
            self.young_weight -= replaced;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_limit_holds() {
        let cache: Cache<u32, u32> = Cache::new(100);
        cache.insert(0, 0, 10);
        for n in 1..1000 {
            cache.insert(n, n, 10);
            assert_eq!(cache.get(&0), Some(0), "after {n}");
            let generations = cache.generations.lock().unwrap();
            assert!(generations.young.len() + generations.old.len() <= 10, "after {n}");
        }
        assert_eq!(cache.get(&1), None);
        cache.insert(2000, 1, 51);
        assert_eq!(cache.get(&2000), None);
        cache.insert(0, 7, 10);
        assert_eq!(cache.get(&0), Some(7));
    }
}
