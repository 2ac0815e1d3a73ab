//! A figure: the same work done by one contender after the other, round by round, so that what else the machine does
//! falls on all of them. What is told is the median of the rounds.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::contender::Contender;
use crate::peer::client::{Mode, Outcome, Work};
use crate::stand::{Server, Stand};

/// What is done, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Task {
    /// Over and over.
    pub work: Work,
    /// Who opens data connections.
    pub mode: Mode,
    /// How many clients at a time.
    pub clients: usize,
    /// How long a file is, in bytes.
    pub file: usize,
    /// How long a round is.
    pub time: Duration,
    /// How many rounds.
    pub rounds: usize,
}

/// What a contender's rounds came to.
#[derive(Debug, Clone)]
pub struct Row {
    /// Who.
    pub contender: Contender,
    /// How often a second: the median of the rounds.
    pub rate: f64,
    /// This by the first contender's rate of the same round: the median.
    pub ratio: f64,
    /// How long one took, in microseconds: the medians of the rounds' medians and 99th percentiles.
    pub p50: f64,
    /// The same.
    pub p99: f64,
    /// Queued packets for each; 0 without a queue.
    pub packets: f64,
    /// Processor time of the contender's program for each packet, in microseconds.
    pub cpu: f64,
}

/// One stand for each contender.
pub fn stands(contenders: &[Contender], server: Server, ftpalg: &Path) -> Result<Vec<Stand>> {
    contenders.iter().map(|contender| Stand::new(*contender, server, ftpalg)).collect()
}

/// Does it in rounds.
pub fn measure(stands: &[Stand], task: Task) -> Result<Vec<Row>> {
    let mut rounds: Vec<Vec<Round>> = stands.iter().map(|_| Vec::new()).collect();
    for number in 0..task.rounds {
        // Each begins a round as often as the others.
        for place in 0..stands.len() {
            let place = (place + number) % stands.len();
            rounds[place].push(Round::of(&stands[place], task)?);
        }
    }
    let rows = stands.iter().zip(&rounds).map(|(stand, own)| {
        let median = |value: &dyn Fn(&Round) -> f64| median(own.iter().map(value).collect());
        let ratios = own.iter().zip(&rounds[0]).map(|(own, first)| own.outcome.rate() / first.outcome.rate());
        Row {
            contender: stand.contender,
            rate: median(&|round| round.outcome.rate()),
            ratio: self::median(ratios.collect()),
            p50: median(&|round| round.outcome.p50),
            p99: median(&|round| round.outcome.p99),
            packets: median(&|round| round.packets / round.outcome.times as f64),
            cpu: median(&|round| round.cpu / round.packets),
        }
    });
    Ok(rows.collect())
}

struct Round {
    outcome: Outcome,
    packets: f64,
    /// In microseconds.
    cpu: f64,
}

impl Round {
    fn of(stand: &Stand, task: Task) -> Result<Round> {
        let before = stand.usage()?;
        let outcome = stand.load(task.work, task.mode, task.clients, task.time, task.file)?;
        let after = stand.usage()?;
        Ok(Round {
            outcome,
            packets: (after.packets - before.packets) as f64,
            cpu: (after.cpu - before.cpu) as f64 / 1e3,
        })
    }
}

/// The one in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert!((median(vec![9.0, 1.0, 5.0]) - 5.0).abs() < f64::EPSILON);
        assert!(median(Vec::new()).is_nan());
    }
}
