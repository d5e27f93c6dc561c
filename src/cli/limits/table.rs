//! Tables with headings, as `show`, `blocks` and `overrides` print them.

use std::io::{self, Write};

/// The heading of a column; its cells are on the same side.
#[derive(Debug, Clone, Copy)]
pub(super) enum Column {
    Left(&'static str),
    /// For figures.
    Right(&'static str),
}

impl Column {
    fn heading(self) -> &'static str {
        match self {
            Column::Left(heading) | Column::Right(heading) => heading,
        }
    }

    fn cell(self, text: &str, width: usize) -> String {
        match self {
            Column::Left(_) => format!("{text:width$}"),
            Column::Right(_) => format!("{text:>width$}"),
        }
    }
}

/// Writes the headings and a line per row; nothing when there are no rows.
pub(super) fn write<const N: usize>(
    columns: [Column; N],
    rows: &[[String; N]],
    out: &mut impl Write,
) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut widths = columns.map(|column| column.heading().chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut line = |cells: [&str; N]| {
        let cells = columns.iter().zip(cells).zip(widths);
        let padded: Vec<String> = cells.map(|((column, text), width)| column.cell(text, width)).collect();
        writeln!(out, "{}", padded.join("  ").trim_end())
    };
    line(columns.map(Column::heading))?;
    rows.iter().try_for_each(|row| line(row.each_ref().map(String::as_str)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut text = Vec::new();
        write([Column::Left("A"), Column::Right("LEFT"), Column::Left("WHY")], &[], &mut text).unwrap();
        assert!(text.is_empty());
        let rows =
            [["é".repeat(3), "7".to_owned(), "-".to_owned()], ["b".to_owned(), "12345".to_owned(), String::new()]];
        write([Column::Left("A"), Column::Right("LEFT"), Column::Left("WHY")], &rows, &mut text).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "A     LEFT  WHY\nééé      7  -\nb    12345\n");
    }
}
