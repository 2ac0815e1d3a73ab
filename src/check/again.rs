//! A second look, and a third one: the daemon puts back within some 30 ms what somebody has changed.

use std::thread::sleep;
use std::time::Duration;

/// What is still not right after this long stays so.
const MEANWHILE: Duration = Duration::from_millis(300);
const LOOKS: usize = 3;

/// The result of a look that has settled, or else of the last one.
pub fn until<T, E>(is_settled: impl Fn(&T) -> bool, mut look: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let mut seen = look()?;
    for _ in 1..LOOKS {
        if is_settled(&seen) {
            break;
        }
        sleep(MEANWHILE);
        seen = look()?;
    }
    Ok(seen)
}
