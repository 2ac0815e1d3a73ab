//! A conversation as text: each line begins with a mark, `>` where the client says it and `<` where the server does.
//! Any other byte in that place counts as one of them, so every text is a transcript.

use ftpalg::engine::event::Mode;

/// What one end says at once: a line, its end included; only the last piece may lack it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said<'a> {
    /// Active for the client.
    pub mode: Mode,
    pub text: &'a [u8],
}

/// The pieces of a transcript.
pub fn pieces(transcript: &[u8]) -> Vec<Said<'_>> {
    let lines = transcript.split_inclusive(|&byte| byte == b'\n');
    lines
        .filter_map(|line| line.split_first())
        .filter(|(_, text)| !text.is_empty())
        .map(|(&mark, text)| Said { mode: if mark & 2 == 0 { Mode::Passive } else { Mode::Active }, text })
        .collect()
}
