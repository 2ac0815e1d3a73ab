//! Text in columns that fit a width: what matters least goes first, and then the widest are cut.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Between two columns.
const GAP: usize = 2;

/// Below this no column is cut.
const LEAST: usize = 8;

/// How a column is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    /// Numbers.
    Right,
}

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its name, in the first line.
    pub title: &'static str,
    /// How it is written.
    pub align: Align,
    /// Where there is no room for all, the column with the highest number is left out first; with 0, never.
    pub spare: u8,
}

/// A table. Every row has as many cells as there are columns.
#[derive(Debug)]
pub struct Table {
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// Its lines, the titles first, none wider than `width`.
    pub fn lines(&self, width: usize) -> Vec<String> {
        let widths = self.widths(width);
        let titles = self.columns.iter().map(|column| column.title.to_owned()).collect::<Vec<_>>();
        let line = |cells: &[String]| {
            let shown = self.columns.iter().zip(cells).zip(&widths);
            let cells = shown.filter_map(|((column, cell), width)| Some(pad(cell, (*width)?, column.align)));
            let line = cells.collect::<Vec<_>>().join(&" ".repeat(GAP));
            clip(line.trim_end(), width)
        };
        [line(&titles)].into_iter().chain(self.rows.iter().map(|row| line(row))).collect()
    }

    /// How wide each column is, or that it is left out.
    fn widths(&self, width: usize) -> Vec<Option<usize>> {
        let widest =
            |index: usize| self.rows.iter().filter_map(|row| row.get(index)).map(|cell| cell.width()).max();
        let mut widths: Vec<_> = (self.columns.iter().enumerate())
            .map(|(index, column)| Some(widest(index).unwrap_or(0).max(column.title.width())))
            .collect();
        while total(&widths) > width {
            let spare = (self.columns.iter().zip(&mut widths))
                .filter(|(column, width)| column.spare > 0 && width.is_some())
                .max_by_key(|(column, _)| column.spare);
            match spare {
                Some((_, width)) => *width = None,
                None => break,
            }
        }
        while total(&widths) > width {
            match widths.iter_mut().flatten().max() {
                Some(widest) if *widest > LEAST => *widest -= 1,
                _ => break,
            }
        }
        widths
    }
}

fn total(widths: &[Option<usize>]) -> usize {
    let shown = widths.iter().flatten();
    shown.clone().sum::<usize>() + GAP * shown.count().saturating_sub(1)
}

fn pad(cell: &str, width: usize, align: Align) -> String {
    let cell = clip(cell, width);
    let blanks = " ".repeat(width.saturating_sub(cell.width()));
    match align {
        Align::Left => cell + &blanks,
        Align::Right => blanks + &cell,
    }
}

/// As much of a text as fits, and a sign that there was more.
pub fn clip(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut clipped = String::new();
    let mut used = 1;
    for character in text.chars() {
        used += character.width().unwrap_or(0);
        if used > width {
            break;
        }
        clipped.push(character);
    }
    if width > 0 {
        clipped.push('…');
    }
    clipped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let column = |title, align, spare| Column { title, align, spare };
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        Table {
            columns: vec![
                column("CLIENT", Align::Left, 0),
                column("USER", Align::Left, 1),
                column("FILES", Align::Right, 2),
            ],
            rows: vec![row(["192.168.100.200", "anonymous", "7"]), row(["10.0.0.2", "日本", "12345"])],
        }
    }

    #[test]
    fn columns_are_as_wide_as_what_stands_in_them() {
        assert_eq!(
            table().lines(80),
            [
                "CLIENT           USER       FILES",
                "192.168.100.200  anonymous      7",
                "10.0.0.2         日本       12345",
            ]
        );
    }

    #[test]
    fn what_matters_least_goes_first_and_then_the_widest_are_cut() {
        assert_eq!(table().lines(30)[1], "192.168.100.200  anonymous");
        assert_eq!(table().lines(20)[1], "192.168.100.200");
        assert_eq!(table().lines(12)[1], "192.168.100…");
        for width in 0..60 {
            assert!(table().lines(width).iter().all(|line| line.width() <= width), "{width}");
        }
    }

    #[test]
    fn a_wide_character_is_not_cut_in_two() {
        assert_eq!(clip("日本語", 4), "日…");
        assert_eq!(clip("日本語", 5), "日本…");
        assert_eq!(clip("abc", 0), "");
    }
}
