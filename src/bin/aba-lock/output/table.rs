//! Tables with aligned columns, for `list`, `run-once --list` and `reserve --list`.

/// A column and its title.
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

/// Returns the lines of a table, the titles first. There are no lines if there are no rows.
pub(crate) fn format_table<R: AsRef<[C]>, C: AsRef<str>>(
    columns: &[Column],
    rows: impl Iterator<Item = R>,
) -> Vec<String> {
    let rows: Vec<R> = rows.collect();
    if rows.is_empty() {
        return Vec::new();
    }
    let width_of = |(at, column): (usize, &Column)| match column {
        Column::Fit(title) => {
            let cells = rows.iter().map(|row| row.as_ref()[at].as_ref().chars().count());
            cells.max().unwrap_or(0).max(title.chars().count())
        }
        Column::Left(_, width) | Column::Right(_, width) => *width,
    };
    let widths: Vec<usize> = columns.iter().enumerate().map(width_of).collect();
    let titles: Vec<&str> = columns.iter().map(Column::title).collect();
    let mut lines = vec![format_row(columns, &widths, &titles)];
    lines.extend(rows.iter().map(|row| format_row(columns, &widths, row.as_ref())));
    lines
}

/// Puts the cells into one line. A list can have many thousand rows, so this allocates only the line.
fn format_row<C: AsRef<str>>(columns: &[Column], widths: &[usize], cells: &[C]) -> String {
    let mut line = String::with_capacity(widths.iter().sum::<usize>() + 2 * widths.len() + 32);
    for (at, ((column, width), cell)) in columns.iter().zip(widths).zip(cells).enumerate() {
        let cell = cell.as_ref();
        let padding = std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count()));
        if at > 0 {
            line.push_str("  ");
        }
        if matches!(column, Column::Right(..)) {
            line.extend(padding);
            line.push_str(cell);
        } else {
            line.push_str(cell);
            line.extend(padding);
        }
    }
    line.truncate(line.trim_end().len());
    line
}
