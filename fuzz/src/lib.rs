//! What the fuzz targets check. The same files are part of tests/engine, which replays the corpora without libFuzzer.

#[path = "../../tests/engine/checks/mod.rs"]
pub mod checks;
#[path = "../../tests/engine/dice.rs"]
pub mod dice;
#[path = "../../tests/engine/end.rs"]
pub mod end;
#[path = "../../tests/engine/play.rs"]
pub mod play;
#[path = "../../tests/engine/router.rs"]
pub mod router;
#[path = "../../tests/engine/segment.rs"]
pub mod segment;
#[path = "../../tests/engine/world.rs"]
pub mod world;
