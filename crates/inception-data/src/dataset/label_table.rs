//! A table of labels: CSV (RFC 4180) with a row for each image, of any number of classes.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::classes::Classes;
use super::files::read_text;
use super::item::Item;
use super::list;
use super::listing::Listing;
use crate::error::{DatasetProblem, Error};

/// Between the names of an image's classes, where a row names them.
const SEPARATOR: char = ';';

/// Reads the table `path`. Its first line is a head, and the first field of each other line the path of an
/// image; the classes are one of both:
///
/// - a column each, named by the head, with 1 for an image that has it and 0 for one that has not;
/// - one column with their names, separated by semicolons.
///
/// The classes are `known` ones, in their order, and all of them are columns, in any order. Without, they are
/// those of the head, or the names by alphabet.
pub(super) fn open(
    path: &Path,
    image_root: Option<&Path>,
    known: Option<&[String]>,
) -> Result<(Listing, Classes), Error> {
    let fail = |problem: DatasetProblem| Error::dataset(path, problem);
    let mut rows = rows(&read_text(path)?).map_err(fail)?.into_iter();
    let head = rows.next().map(|row| row.fields).unwrap_or_default();
    let rows: Vec<Row> = rows.collect();
    check(&rows, head.len()).map_err(fail)?;
    // One column of nothing but 0 and 1 is a class, and no names.
    let has_names = head.len() == 2 && !rows.iter().all(|row| value(&row.fields[1]).is_some());
    let (names, labels) = match has_names {
        true => by_name(&rows, known).map_err(fail)?,
        false => by_column(head.get(1..).unwrap_or_default(), &rows, known).map_err(fail)?,
    };
    let items = rows.into_iter().zip(labels).map(|(mut row, labels)| {
        let name = PathBuf::from(std::mem::take(&mut row.fields[0]));
        Item { labels: Some(labels), ..Item::new(name, 0) }
    });
    let listing = list::locate(path, image_root, items.collect())?;
    Ok((listing, Classes { count: names.len(), names: Some(names) }))
}

/// A line of the table; one with line ends within quotation marks is more.
struct Row {
    /// Its number, from 1.
    line: usize,
    fields: Vec<String>,
}

/// All lines that are not empty. Spaces around a field are left out.
fn rows(text: &str) -> Result<Vec<Row>, DatasetProblem> {
    let mut rows = Vec::new();
    let (mut line, mut start) = (1, 1);
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = text.chars().peekable();
    let mut end_row = |start: usize, fields: &mut Vec<String>, field: &mut String| {
        fields.push(std::mem::take(field).trim().to_owned());
        let fields = std::mem::take(fields);
        if fields.iter().any(|field| !field.is_empty()) {
            rows.push(Row { line: start, fields });
        }
    };
    while let Some(character) = characters.next() {
        line += usize::from(character == '\n');
        match (character, quoted) {
            ('"', true) if characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            ('"', true) => quoted = false,
            ('"', false) if field.trim().is_empty() => {
                field.clear();
                quoted = true;
            }
            (',', false) => fields.push(std::mem::take(&mut field).trim().to_owned()),
            ('\n', false) => {
                end_row(start, &mut fields, &mut field);
                start = line;
            }
            (character, _) => field.push(character),
        }
    }
    if quoted {
        return Err(DatasetProblem::OpenQuotation { line: start });
    }
    end_row(start, &mut fields, &mut field);
    Ok(rows)
}

/// Refuses rows that are not as long as the head, name no image, or one that another names.
fn check(rows: &[Row], columns: usize) -> Result<(), DatasetProblem> {
    let mut seen = HashMap::new();
    for Row { line, fields } in rows {
        let line = *line;
        if fields.len() != columns {
            return Err(DatasetProblem::RowLength { line, found: fields.len(), expected: columns });
        }
        if fields[0].is_empty() {
            return Err(DatasetProblem::RowWithoutPicture { line });
        }
        if let Some(first) = seen.insert(&fields[0], line) {
            return Err(DatasetProblem::SamePicture { picture: fields[0].clone(), first, second: line });
        }
    }
    Ok(())
}

/// What a field of a class's column says.
fn value(field: &str) -> Option<bool> {
    match field.parse::<f64>() {
        Ok(0.0) => Some(false),
        Ok(1.0) => Some(true),
        _ => None,
    }
}

type Labels = Vec<Box<[u32]>>;

/// The classes that the columns of `head` are, and those of each row.
fn by_column(
    head: &[String],
    rows: &[Row],
    known: Option<&[String]>,
) -> Result<(Vec<String>, Labels), DatasetProblem> {
    let mut columns = HashMap::new();
    for (column, name) in head.iter().enumerate() {
        if name.is_empty() || columns.insert(&name[..], column + 1).is_some() {
            return Err(DatasetProblem::SameColumn { class: name.clone() });
        }
    }
    let names = known.unwrap_or(head);
    // The column of each class.
    let mut order = Vec::with_capacity(names.len());
    for name in names {
        let column = columns.remove(&name[..]);
        order.push(column.ok_or_else(|| DatasetProblem::NoColumn { class: name.clone() })?);
    }
    if let Some(name) = head.iter().find(|name| columns.contains_key(&name[..])) {
        return Err(DatasetProblem::UnknownClass { line: 1, class: name.clone() });
    }
    let labels_of = |row: &Row| {
        let mut labels = Vec::new();
        for ((class, name), &column) in (0..).zip(names).zip(&order) {
            match value(&row.fields[column]) {
                Some(true) => labels.push(class),
                Some(false) => {}
                None => {
                    let (class, value) = (name.clone(), row.fields[column].clone());
                    return Err(DatasetProblem::NotBinary { line: row.line, class, value });
                }
            }
        }
        Ok(labels.into_boxed_slice())
    };
    let labels = rows.iter().map(labels_of).collect::<Result<_, _>>()?;
    Ok((names.to_vec(), labels))
}

/// The classes that the rows name, and those of each row.
fn by_name(rows: &[Row], known: Option<&[String]>) -> Result<(Vec<String>, Labels), DatasetProblem> {
    let named =
        |row: &'_ Row| row.fields[1].split(SEPARATOR).map(|name| name.trim().to_owned()).collect::<Vec<_>>();
    let names = match known {
        Some(known) => known.to_vec(),
        None => {
            let all: BTreeSet<String> = rows.iter().flat_map(named).filter(|name| !name.is_empty()).collect();
            all.into_iter().collect()
        }
    };
    let classes: HashMap<&str, u32> = names.iter().map(|name| &name[..]).zip(0..).collect();
    let labels_of = |row: &Row| -> Result<Box<[u32]>, DatasetProblem> {
        let mut labels = BTreeSet::new();
        for name in named(row).into_iter().filter(|name| !name.is_empty()) {
            let class = classes.get(&name[..]);
            labels.insert(*class.ok_or(DatasetProblem::UnknownClass { line: row.line, class: name })?);
        }
        Ok(labels.into_iter().collect())
    };
    let labels = rows.iter().map(labels_of).collect::<Result<_, _>>()?;
    Ok((names, labels))
}
