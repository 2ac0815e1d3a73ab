//! The engine as a whole: two TCP ends, a router between them, a clock that only the test turns.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails shall stop")]

mod bounds;
mod checks;
mod conversation;
mod corpora;
mod dice;
mod end;
mod hostile;
mod play;
mod properties;
mod reference;
mod router;
mod segment;
mod traces;
mod world;

/// So many cases that the whole takes a few seconds, and always the same ones, unless PROPTEST_CASES asks for more.
fn proptest_config() -> proptest::test_runner::Config {
    use proptest::test_runner::{Config, RngSeed};

    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    Config {
        cases: asked.unwrap_or(192),
        rng_seed: if asked.is_some() { RngSeed::Random } else { RngSeed::Fixed(2) },
        failure_persistence: None,
        max_shrink_iters: 400,
        ..Config::default()
    }
}
