//! Parquet files with a column of images, as dataset hubs ship them: `image` of `{bytes, path}`, `label`.
//!
//! What is read is the footer and the small columns of names and labels, and then the images, page by page:
//! what is in memory is the page at hand and the last images, however large a file or a row group is.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use parquet::basic::Type;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType, DataType};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::SchemaDescriptor;

use super::item::Item;
use super::kept::{AHEAD, Kept};
use crate::catch::catch_panic;
use crate::error::{DatasetProblem, Error};

/// The rows of one or several files, numbered through.
#[derive(Debug)]
pub(crate) struct ParquetFiles {
    groups: Vec<RowGroup>,
    cursor: Mutex<Cursor>,
}

/// A row group, the unit that a file can be entered at.
#[derive(Debug)]
struct RowGroup {
    file: PathBuf,
    /// Number in its file.
    number: usize,
    /// Column of the images' bytes.
    column: usize,
    /// Its first row, of all files.
    first: usize,
    rows: usize,
}

/// Where reading has got to.
#[derive(Default)]
struct Cursor {
    /// Group that is open.
    open: Option<(usize, ColumnReaderImpl<ByteArrayType>)>,
    /// The next row that `open` gives, of all files.
    next: usize,
    /// The last images, by row; `None` where the file has none.
    kept: Kept<Option<ByteArray>>,
}

/// The leaf columns of interest.
#[derive(Clone, Copy)]
struct Columns {
    bytes: usize,
    path: Option<usize>,
    label: usize,
}

impl ParquetFiles {
    /// Lists the rows of `files`, in order; labels must be below `num_classes`.
    pub(crate) fn open(files: &[PathBuf], num_classes: usize) -> Result<(Self, Vec<Item>), Error> {
        let (mut groups, mut items) = (Vec::new(), Vec::new());
        for path in files {
            let file = File::open(path).map_err(|source| Error::Read { path: path.clone(), source })?;
            let result = catch_panic(
                || list(path, file, num_classes, &mut groups, &mut items),
                || DatasetProblem::Parquet { source: PANICKED.into() },
            );
            result.map_err(|problem| Error::Dataset { path: path.clone(), problem: Box::new(problem) })?;
        }
        Ok((Self { groups, cursor: Mutex::default() }, items))
    }

    /// The file that image `row` is in.
    pub(crate) fn file(&self, row: usize) -> &Path {
        self.group_of(row).map_or(Path::new(""), |group| &self.groups[group].file)
    }

    fn group_of(&self, row: usize) -> Option<usize> {
        self.groups.partition_point(|group| group.first <= row).checked_sub(1)
    }

    /// Appends the bytes of image `row`.
    pub(crate) fn read(&self, row: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
        // What a thread that panicked has left half-done is not used again: see `take`.
        let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        let picture = catch_panic(
            || cursor.picture(self, row).map_err(io::Error::other),
            || io::Error::other(PANICKED),
        )?;
        drop(cursor);
        let missing = || io::Error::new(io::ErrorKind::NotFound, "its row has no picture");
        bytes.extend_from_slice(picture.ok_or_else(missing)?.data());
        Ok(())
    }
}

impl Cursor {
    fn picture(&mut self, files: &ParquetFiles, row: usize) -> Result<Option<ByteArray>, ParquetError> {
        if let Some(picture) = self.kept.get(row) {
            return Ok(picture.clone());
        }
        if !(self.next..self.next + AHEAD).contains(&row) {
            (self.open, self.next) = (None, row);
        }
        loop {
            let at = self.next;
            // An error leaves nothing open, so that the next row is found from the start of its group.
            let mut open = self.open.take();
            let group = files.group_of(at).ok_or_else(|| ParquetError::EOF("no such row".to_owned()))?;
            let RowGroup { first, rows, .. } = files.groups[group];
            let mut reader = match open.take_if(|(found, _)| *found == group) {
                Some((_, reader)) => reader,
                None => files.groups[group].reader(at - first)?,
            };
            let picture = next_value(&mut reader)?;
            self.next = at + 1;
            self.open = (self.next < first + rows).then_some((group, reader));
            let len = picture.as_ref().map_or(0, ByteArray::len);
            self.kept.push(at, picture.clone(), len);
            if at == row {
                return Ok(picture);
            }
        }
    }
}

impl std::fmt::Debug for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cursor").field("next", &self.next).finish_non_exhaustive()
    }
}

impl RowGroup {
    /// A reader of the images from row `skip` of the group on. Pages before it are passed over unread.
    fn reader(&self, skip: usize) -> Result<ColumnReaderImpl<ByteArrayType>, ParquetError> {
        let file = File::open(&self.file)?;
        let len = file.metadata()?.len();
        let reader = SerializedFileReader::new(file)?;
        // The file may be another one by now.
        check_ranges(reader.metadata(), len)?;
        if self.number >= reader.num_row_groups() {
            return Err(ParquetError::EOF("the file has changed".to_owned()));
        }
        let ColumnReader::ByteArrayColumnReader(mut column) =
            reader.get_row_group(self.number)?.get_column_reader(self.column)?
        else {
            return Err(ParquetError::General("the file has changed".to_owned()));
        };
        match column.skip_records(skip)? == skip {
            true => Ok(column),
            false => Err(too_few()),
        }
    }
}

fn too_few() -> ParquetError {
    ParquetError::EOF("a column has fewer rows than its row group".to_owned())
}

/// The next row's value; `None` for null.
fn next_value<T: DataType>(reader: &mut ColumnReaderImpl<T>) -> Result<Option<T::T>, ParquetError> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    match reader.read_records(1, Some(&mut levels), None, &mut values)? {
        (1, ..) => Ok(values.pop()),
        _ => Err(too_few()),
    }
}

/// Adds the row groups and the rows of a file.
fn list(
    path: &Path,
    file: File,
    num_classes: usize,
    groups: &mut Vec<RowGroup>,
    items: &mut Vec<Item>,
) -> Result<(), DatasetProblem> {
    let len = file.metadata().map_err(|source| DatasetProblem::Parquet { source: source.into() })?.len();
    let reader = SerializedFileReader::new(file).map_err(damaged)?;
    let metadata = reader.metadata();
    check_ranges(metadata, len).map_err(damaged)?;
    let columns = find_columns(metadata.file_metadata().schema_descr())?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let first_of_file = items.len();
    for number in 0..reader.num_row_groups() {
        let group = reader.get_row_group(number).map_err(damaged)?;
        let rows = usize::try_from(group.metadata().num_rows()).map_err(|_| damaged(too_few()))?;
        let mut labels = group.get_column_reader(columns.label).map_err(damaged)?;
        let mut paths = match columns.path.map(|column| group.get_column_reader(column)).transpose() {
            Ok(Some(ColumnReader::ByteArrayColumnReader(reader))) => Some(reader),
            Ok(_) => None,
            Err(error) => return Err(damaged(error)),
        };
        let first = items.len();
        while items.len() < first + rows {
            let row = items.len() - first_of_file;
            let label = match &mut labels {
                ColumnReader::Int32ColumnReader(reader) => {
                    next_value(reader).map(|label| label.map(i64::from))
                }
                ColumnReader::Int64ColumnReader(reader) => next_value(reader),
                _ => Ok(None),
            };
            let label = label.map_err(damaged)?;
            let class = label.and_then(|label| u32::try_from(label).ok());
            let class = class.filter(|&class| (class as usize) < num_classes);
            let class = class.ok_or(DatasetProblem::RowLabel { row, label, num_classes })?;
            let own = paths.as_mut().map(next_value).transpose().map_err(damaged)?.flatten();
            let own = own.and_then(|own| String::from_utf8(own.data().to_vec()).ok());
            let path = own.filter(|own| !own.is_empty()).unwrap_or_else(|| format!("{name}#{row}"));
            items.push(Item::new(path.into(), class));
        }
        if rows > 0 {
            groups.push(RowGroup { file: path.to_owned(), number, column: columns.bytes, first, rows });
        }
    }
    Ok(())
}

/// The leaf columns that hold the images, their names and their labels.
fn find_columns(schema: &SchemaDescriptor) -> Result<Columns, DatasetProblem> {
    let leaves = || schema.columns().iter().enumerate().filter(|(_, leaf)| leaf.max_rep_level() == 0);
    let parts = |leaf: usize| schema.column(leaf).path().parts().to_vec();
    // The only one, or else the one of this name.
    let choose = |what, name: &str, found: Vec<usize>| match found[..] {
        [only] => Ok(only),
        _ => found.into_iter().find(|&leaf| parts(leaf)[0] == name).ok_or_else(|| {
            let columns = schema.columns().iter().map(|leaf| leaf.path().string()).collect();
            DatasetProblem::Columns { what, name: name.to_owned(), columns }
        }),
    };
    let is_bytes = |leaf: usize| schema.column(leaf).physical_type() == Type::BYTE_ARRAY;
    let pictures = leaves().map(|(leaf, _)| leaf).filter(|&leaf| is_bytes(leaf));
    let pictures = pictures.filter(|&leaf| parts(leaf).get(1).is_some_and(|part| part == "bytes"));
    let bytes = choose("pictures, of `{bytes, path}`", "image", pictures.collect())?;
    let numbers = leaves().filter(|(leaf, column)| {
        parts(*leaf).len() == 1 && matches!(column.physical_type(), Type::INT32 | Type::INT64)
    });
    let label = choose("labels, of integers", "label", numbers.map(|(leaf, _)| leaf).collect())?;
    let beside = [parts(bytes)[0].clone(), "path".to_owned()];
    let path = leaves().map(|(leaf, _)| leaf).find(|&leaf| is_bytes(leaf) && parts(leaf) == beside);
    Ok(Columns { bytes, path, label })
}

/// The crate takes it for granted that columns lie in the file.
fn check_ranges(metadata: &ParquetMetaData, len: u64) -> Result<(), ParquetError> {
    for column in metadata.row_groups().iter().flat_map(|group| group.columns()) {
        let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        let end = u64::try_from(start).ok().zip(u64::try_from(column.compressed_size()).ok());
        if end.and_then(|(start, size)| start.checked_add(size)).is_none_or(|end| end > len) {
            return Err(ParquetError::EOF("a column lies outside the file".to_owned()));
        }
    }
    Ok(())
}

fn damaged(source: ParquetError) -> DatasetProblem {
    DatasetProblem::Parquet { source: source.into() }
}

const PANICKED: &str = "the Parquet reader gave up on data that break the rules of the format";
