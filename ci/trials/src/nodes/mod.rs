//! Cases of many nodes: one misfortune each, with a goal and a measurement.
//!
//! A case is one value. Its play submits mail to a fleet, strikes a node or an agent, and measures;
//! then everything is healed, and all mail must have arrived. A goal that is met today must stay
//! met. One that isn't is shown with what was measured. A goal that is a time may be missed by as
//! much as a busy machine explains.

mod agents;
mod gone;
mod operator;
mod placement;
mod scene;
mod sick;

use std::fmt;
use std::time::Duration;

use anyhow::Result;

use crate::fleet::FleetPlan;
pub use scene::Scene;

/// Number of the node that a case strikes.
pub(crate) const STRUCK: usize = 0;

/// A case; see the module.
#[derive(Debug, Clone, Copy)]
pub struct NodesCase {
    /// Name of the case.
    pub name: &'static str,
    /// Goal, in words.
    pub goal: &'static str,
    /// Whether the goal is met today.
    pub is_met_today: bool,
    /// Whether `docs/architecture.md` says that mail of the struck node may be sent twice.
    pub names_twice: bool,
    /// Whether the case is part of the short campaign.
    pub is_quick: bool,
    pub(crate) adjust: fn(FleetPlan) -> FleetPlan,
    pub(crate) play: fn(&mut Scene) -> Result<Measured>,
}

/// A measurement, and whether the goal was met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measured {
    /// Measurement, in words.
    pub words: String,
    /// Whether the case's goal was met.
    pub is_met: bool,
    /// Whether the goal was met, or missed by no more than a busy machine explains.
    pub is_near: bool,
}

impl Measured {
    fn new(is_met: bool, words: impl Into<String>) -> Self {
        Self { words: words.into(), is_met, is_near: is_met }
    }

    /// Says that a busy machine explains a miss.
    const fn or_near(mut self, is_near: bool) -> Self {
        self.is_near = self.is_met || is_near;
        self
    }
}

impl NodesCase {
    /// Returns all cases, in the order of a campaign.
    pub fn all() -> Vec<Self> {
        [sick::CASES, gone::CASES, placement::CASES, agents::CASES, operator::CASES].concat()
    }

    const fn new(
        name: &'static str,
        goal: &'static str,
        play: fn(&mut Scene) -> Result<Measured>,
    ) -> Self {
        Self {
            name,
            goal,
            is_met_today: false,
            names_twice: false,
            is_quick: false,
            adjust: |plan| plan,
            play,
        }
    }

    const fn quick(mut self) -> Self {
        self.is_quick = true;
        self
    }

    const fn met(mut self) -> Self {
        self.is_met_today = true;
        self
    }

    const fn names_twice(mut self) -> Self {
        self.names_twice = true;
        self
    }

    const fn with(mut self, adjust: fn(FleetPlan) -> FleetPlan) -> Self {
        self.adjust = adjust;
        self
    }

    /// Makes the case's fleet with all agents.
    pub fn scene(&self, nodes: u8, messages: u64) -> Result<Scene> {
        Scene::new(self.name, (self.adjust)(FleetPlan { nodes, ..FleetPlan::default() }), messages)
    }

    /// Strikes and measures.
    pub fn play(&self, scene: &mut Scene) -> Result<Measured> {
        (self.play)(scene)
    }
}

/// Returns a time in words: `after 3.2 s`, or `never`.
pub(crate) fn time(time: Option<Duration>) -> impl fmt::Display {
    time.map_or_else(|| "never".to_owned(), |it| format!("after {:.1} s", it.as_secs_f64()))
}
