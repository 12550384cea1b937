//! Every order of what actors ask, up to a bound: each run is told where to go off the beaten track, and says where it could.
//!
//! A run lets one actor go on until it ends or waits. What leads off are *events*, each at one call: another actor goes on
//! first, the actor is killed, or it is stopped for so long that others take it for dead, and then goes on with that call.
//! All runs with up to a number of events are made, one after the other; a run is the same each time. Where the order makes no
//! difference, since no other actor ever asked for the same, none is tried.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use roadstead::store::MemoryStore;

use crate::world::{Call, World, copy_of};

/// Where a run leaves the beaten track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// This actor goes on first.
    Switch(usize),
    /// The actor is killed.
    Kill,
    /// The actor is stopped until nobody else has anything to do, and longer than a lease.
    Stop,
}

/// What becomes of an actor's work: what it has to say in the end.
pub(crate) type Done = Result<(), String>;

/// How many events a run may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) switches: usize,
    /// Kills and stops.
    pub(crate) faults: usize,
}

/// What is explored.
pub(crate) struct Scene {
    /// What is there at the beginning.
    pub(crate) prepare: fn() -> MemoryStore,
    /// What each actor does in it.
    pub(crate) actors: Vec<fn(World) -> LocalBoxFuture<'static, Done>>,
    /// Judges the end; `None` for who was killed.
    pub(crate) judge: fn(&MemoryStore, &[Option<Done>]) -> Result<(), String>,
}

/// A decision of a run.
struct Step {
    actor: usize,
    call: Call,
    /// Others that could have gone on.
    others: Vec<usize>,
}

/// The time that makes everybody dead.
const LONG: Duration = Duration::from_mins(18);

/// How often a run may find that all wait.
const MAX_WAITS: usize = 200;

async fn run(scene: &Scene, at_first: &MemoryStore, script: &[(usize, Event)]) -> Result<Vec<Step>, String> {
    fastrand::seed(7);
    let world = World::new(copy_of(at_first), scene.actors.len());
    let mut tasks: Vec<_> = scene.actors.iter().map(|actor| tokio::task::spawn_local(actor(world.clone()))).collect();
    let (mut dead, mut stopped) = (BTreeSet::new(), None);
    let (mut steps, mut current, mut waits) = (Vec::new(), 0, 0);
    loop {
        // Everybody comes to its next call, also those that wait for tasks of their own.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        if let Some(problem) = world.broken() {
            return Err(problem);
        }
        let ready = |actor: &usize| !dead.contains(actor) && stopped != Some(*actor) && world.next(*actor).is_some();
        let mut runnable: Vec<usize> = (0..tasks.len()).filter(ready).collect();
        if runnable.is_empty() {
            let ended = |actor: usize| dead.contains(&actor) || tasks[actor].is_finished();
            if (0..tasks.len()).all(|actor| ended(actor) || stopped == Some(actor)) {
                let Some(actor) = stopped.take() else { break };
                runnable.push(actor);
            } else {
                waits += 1;
                if waits > MAX_WAITS {
                    return Err("somebody waits for ever".to_owned());
                }
                tokio::time::advance(Duration::from_mins(1)).await;
                world.pass(Duration::from_mins(1));
                continue;
            }
        }
        let mut actor = if runnable.contains(&current) { current } else { runnable[0] };
        let event = script.iter().find(|(at, _)| *at == steps.len()).map(|(_, event)| *event);
        let call = world.next(actor).unwrap();
        let others = runnable.iter().copied().filter(|other| *other != actor).collect();
        steps.push(Step { actor, call, others });
        match event {
            None => {}
            Some(Event::Switch(other)) => actor = other,
            Some(Event::Kill) => {
                dead.insert(actor);
                continue;
            }
            Some(Event::Stop) => {
                stopped = Some(actor);
                world.pass(LONG);
                continue;
            }
        }
        current = actor;
        world.grant(actor);
    }
    let mut ends = Vec::new();
    for (actor, task) in tasks.iter_mut().enumerate() {
        let end = if dead.contains(&actor) { None } else { Some(task.await.map_err(|e| e.to_string())?) };
        ends.push(end);
    }
    (scene.judge)(world.store(), &ends).map_err(|problem| format!("{problem}; {ends:?}"))?;
    Ok(steps)
}

struct Explorer<'a> {
    scene: &'a Scene,
    at_first: MemoryStore,
    bounds: Bounds,
    /// What each actor was seen to ask.
    seen: Vec<BTreeSet<Call>>,
    runs: usize,
}

impl Explorer<'_> {
    fn run(&mut self, script: &[(usize, Event)]) -> Vec<Step> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let ran = tokio::task::LocalSet::new().block_on(&runtime, run(self.scene, &self.at_first, script));
        self.runs += 1;
        let steps = ran.unwrap_or_else(|problem| panic!("with {script:?}: {problem}"));
        for step in &steps {
            self.seen[step.actor].insert(step.call.clone());
        }
        steps
    }

    fn is_shared(&self, actor: usize, call: &Call) -> bool {
        let others = self.seen.iter().enumerate().filter(|(other, _)| *other != actor);
        others.flat_map(|(_, calls)| calls).any(|other| call.conflicts(other))
    }

    /// What may come next behind a script, of which these are the decisions.
    fn events(&self, script: &[(usize, Event)], steps: &[Step]) -> Vec<(usize, Event)> {
        let switches = script.iter().filter(|(_, event)| matches!(event, Event::Switch(_))).count();
        let faults = script.len() - switches;
        let from = script.last().map_or(0, |(at, _)| at + 1);
        let mut events = Vec::new();
        for (at, step) in steps.iter().enumerate().skip(from) {
            let shared = self.is_shared(step.actor, &step.call);
            if switches < self.bounds.switches && shared {
                events.extend(step.others.iter().map(|other| (at, Event::Switch(*other))));
            }
            if faults < self.bounds.faults && step.call.writes {
                events.push((at, Event::Kill));
            }
            if faults < self.bounds.faults && shared {
                events.push((at, Event::Stop));
            }
        }
        events
    }

    fn explore(&mut self, script: &mut Vec<(usize, Event)>) {
        let steps = self.run(script);
        for event in self.events(script, &steps) {
            script.push(event);
            self.explore(script);
            script.pop();
        }
    }

    /// Adds one event after the other, by chance, and begins anew when no more are allowed.
    fn sample(&mut self, runs: usize) {
        let mut chance = fastrand::Rng::new();
        while self.runs < runs {
            let mut script = Vec::new();
            loop {
                let steps = self.run(&script);
                match &*self.events(&script, &steps) {
                    [] => break,
                    events => script.push(events[chance.usize(..events.len())]),
                }
            }
        }
    }
}

fn explorer(scene: &Scene, bounds: Bounds) -> Explorer<'_> {
    let (at_first, seen) = ((scene.prepare)(), vec![BTreeSet::new(); scene.actors.len()]);
    let mut explorer = Explorer { scene, at_first, bounds, seen, runs: 0 };
    // What an actor asks when it comes first tells where orders matter.
    for first in 0..scene.actors.len() {
        explorer.run(&[(0, Event::Switch(first))]);
    }
    explorer
}

/// Makes all runs within the bounds; returns how many these are.
#[expect(clippy::print_stdout, reason = "how much was tried is for whoever runs it to see")]
pub(crate) fn explore(scene: &Scene, bounds: Bounds) -> usize {
    let mut explorer = explorer(scene, bounds);
    explorer.explore(&mut Vec::new());
    println!("{} schedules of {} actors, within {bounds:?}", explorer.runs, scene.actors.len());
    explorer.runs
}

/// Makes so many of them, other ones each time.
#[expect(clippy::print_stdout, reason = "how much was tried is for whoever runs it to see")]
pub(crate) fn sample(scene: &Scene, bounds: Bounds, runs: usize) {
    explorer(scene, bounds).sample(runs);
    println!("{runs} schedules of {} actors, by chance, within {bounds:?}", scene.actors.len());
}
