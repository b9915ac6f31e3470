//! Parquet files of features, a row a picture: its path, and its features as a list of numbers.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, FloatType};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;

use crate::npy::{Element, bytes_of};

/// Numbers of a row group, which are in memory until it is whole: 4 MiB of `f32`, and what the crate makes of
/// them.
const GROUP: usize = 1 << 20;

/// Writes rows one after the other: the column `path` of texts, and `features` of lists of `float` or
/// `halffloat`.
pub struct Writer<W: Write + Send> {
    file: SerializedFileWriter<W>,
    element: Element,
    dimensions: usize,
    paths: Vec<ByteArray>,
    values: Vec<f32>,
}

impl<W: Write + Send> Writer<W> {
    /// Starts a file of rows of `dimensions` values. `element` is [`Element::F16`] or otherwise
    /// [`Element::F32`].
    ///
    /// # Errors
    ///
    /// What writing gives; [`io::ErrorKind::InvalidInput`] without dimensions.
    pub fn new(output: W, element: Element, dimensions: usize) -> io::Result<Self> {
        if dimensions == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "rows without features"));
        }
        let number = match element {
            Element::F16 => "fixed_len_byte_array (2) element (FLOAT16)",
            _ => "float element",
        };
        let schema = format!(
            "message features {{ required binary path (STRING); \
             required group features (LIST) {{ repeated group list {{ required {number}; }} }} }}"
        );
        let schema = Arc::new(parse_message_type(&schema).map_err(io_error)?);
        // Noise has no words that come twice, does not shrink, and nobody looks for its smallest number.
        let properties = WriterProperties::builder()
            .set_dictionary_enabled(false)
            .set_statistics_enabled(parquet::file::properties::EnabledStatistics::None)
            .build();
        let file = SerializedFileWriter::new(output, schema, Arc::new(properties)).map_err(io_error)?;
        Ok(Self { file, element, dimensions, paths: Vec::new(), values: Vec::new() })
    }

    /// Adds rows and the paths of their pictures, which are written as text.
    ///
    /// # Errors
    ///
    /// What writing gives; [`io::ErrorKind::InvalidInput`] unless there is a path for each row.
    pub fn add<'a>(&mut self, rows: &[f32], paths: impl Iterator<Item = &'a Path>) -> io::Result<()> {
        self.values.extend_from_slice(rows);
        self.paths
            .extend(paths.map(|path| ByteArray::from(path.to_string_lossy().into_owned().into_bytes())));
        if self.paths.len() * self.dimensions != self.values.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a path is wanted for each row"));
        }
        if self.values.len() >= GROUP { self.write_group().map_err(io_error) } else { Ok(()) }
    }

    /// Writes what is left, and the file's end.
    ///
    /// # Errors
    ///
    /// What writing gives.
    pub fn finish(mut self) -> io::Result<W> {
        if !self.paths.is_empty() {
            self.write_group().map_err(io_error)?;
        }
        let mut output = self.file.into_inner().map_err(io_error)?;
        output.flush()?;
        Ok(output)
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        let (values, paths) = (std::mem::take(&mut self.values), std::mem::take(&mut self.paths));
        let mut group = self.file.next_row_group()?;
        if let Some(mut column) = group.next_column()? {
            column.typed::<ByteArrayType>().write_batch(&paths, None, None)?;
            column.close()?;
        }
        if let Some(mut column) = group.next_column()? {
            write_lists(&mut column, &values, self.element, self.dimensions)?;
            column.close()?;
        }
        group.close()?;
        Ok(())
    }
}

impl<W: Write + Send> std::fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("dimensions", &self.dimensions).finish_non_exhaustive()
    }
}

/// Writes lists of `dimensions` numbers each.
fn write_lists(
    column: &mut SerializedColumnWriter<'_>,
    values: &[f32],
    element: Element,
    dimensions: usize,
) -> Result<(), ParquetError> {
    // No list is empty; the first number of each starts it.
    let defined = vec![1; values.len()];
    let repeated: Vec<i16> = (0..values.len()).map(|at| i16::from(at % dimensions != 0)).collect();
    let (defined, repeated) = (Some(&defined[..]), Some(&repeated[..]));
    match element {
        Element::F16 => {
            let bytes = ByteArray::from(bytes_of(element, values));
            let numbers: Vec<FixedLenByteArray> =
                (0..values.len()).map(|at| bytes.slice(2 * at, 2).into()).collect();
            column.typed::<FixedLenByteArrayType>().write_batch(&numbers, defined, repeated)?;
        }
        _ => {
            column.typed::<FloatType>().write_batch(values, defined, repeated)?;
        }
    }
    Ok(())
}

fn io_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(source) => io::Error::other(source),
        },
        error => io::Error::other(error),
    }
}
