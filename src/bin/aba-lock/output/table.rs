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
pub(crate) fn format_table(columns: &[Column], rows: impl Iterator<Item = Vec<String>>) -> Vec<String> {
    let titles = columns.iter().map(|column| column.title().to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(titles).chain(rows).collect();
    if rows.len() == 1 {
        return Vec::new();
    }
    let width_of = |(at, column): (usize, &Column)| match column {
        Column::Fit(_) => rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0),
        Column::Left(_, width) | Column::Right(_, width) => *width,
    };
    let widths: Vec<usize> = columns.iter().enumerate().map(width_of).collect();
    let format_row = |row: &Vec<String>| {
        // The line is built in place, because a list may have thousands of rows.
        let mut line = String::new();
        for (at, ((cell, column), width)) in row.iter().zip(columns).zip(&widths).enumerate() {
            let padding = std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count()));
            line.push_str(if at == 0 { "" } else { "  " });
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
    };
    rows.iter().map(format_row).collect()
}
