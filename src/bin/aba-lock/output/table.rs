//! Tables with aligned columns, for `list`, `run-once --list` and `reserve --list`.

use super::width::count_columns;

/// A column and its title.
#[derive(Clone, Copy)]
pub(crate) enum Column {
    /// As wide as the longest cell.
    Fit(&'static str),
    /// At least this wide. A longer cell shifts the rest of its row.
    Left(&'static str, usize),
    /// As `Left`, with the cells aligned to the right.
    Right(&'static str, usize),
}

impl Column {
    fn title(&self) -> &'static str {
        match self {
            Self::Fit(title) | Self::Left(title, _) | Self::Right(title, _) => title,
        }
    }
}

/// Passes the lines of a table to `put`, the titles first. There are no lines if there are no rows.
pub(crate) fn format_table<R: AsRef<[C]>, C: AsRef<str>>(
    columns: &[Column],
    rows: impl Iterator<Item = R>,
    mut put: impl FnMut(&str),
) {
    let rows: Vec<R> = rows.collect();
    if rows.is_empty() {
        return;
    }
    let width_of = |(at, column): (usize, &Column)| match column {
        Column::Fit(title) => {
            let cells = rows.iter().map(|row| count_columns(row.as_ref()[at].as_ref()));
            cells.max().unwrap_or(0).max(title.chars().count())
        }
        Column::Left(_, width) | Column::Right(_, width) => *width,
    };
    let widths: Vec<usize> = columns.iter().enumerate().map(width_of).collect();
    let titles: Vec<&str> = columns.iter().map(Column::title).collect();
    // A list can have many thousand rows, so one text serves all of them.
    let mut line = String::new();
    put(format_row(&mut line, columns, &widths, &titles));
    for row in &rows {
        put(format_row(&mut line, columns, &widths, row.as_ref()));
    }
}

/// Puts the cells into one line.
fn format_row<'a, C: AsRef<str>>(line: &'a mut String, columns: &[Column], widths: &[usize], cells: &[C]) -> &'a str {
    line.clear();
    for (at, ((column, width), cell)) in columns.iter().zip(widths).zip(cells).enumerate() {
        let cell = cell.as_ref();
        let padding = width.saturating_sub(count_columns(cell));
        if at > 0 {
            line.push_str("  ");
        }
        if matches!(column, Column::Right(..)) {
            push_spaces(line, padding);
            line.push_str(cell);
        } else {
            line.push_str(cell);
            push_spaces(line, padding);
        }
    }
    line.trim_end()
}

fn push_spaces(line: &mut String, count: usize) {
    const SPACES: &str = "                                ";
    let mut rest = count;
    while rest > 0 {
        let some = rest.min(SPACES.len());
        line.push_str(&SPACES[..some]);
        rest -= some;
    }
}
