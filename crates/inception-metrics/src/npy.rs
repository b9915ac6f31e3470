//! NumPy's `.npy`: arrays of floats and integers, little-endian, in C or in Fortran order.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use half::f16;

use crate::error::Error;
use crate::features::Features;

const MAGIC: &[u8] = b"\x93NUMPY";
/// Bytes of the header that [`Writer`] leaves room for.
const HEADER: usize = 128;

/// Types of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Element {
    /// `<f2`
    F16,
    /// `<f4`
    F32,
    /// `<f8`
    F64,
    /// `<i8`
    I64,
    /// `<u8`
    U64,
}

/// The elements by the names that NumPy gives them, with their sizes in bytes.
const ELEMENTS: [(Element, &str, usize); 5] = [
    (Element::F16, "<f2", 2),
    (Element::F32, "<f4", 4),
    (Element::F64, "<f8", 8),
    (Element::I64, "<i8", 8),
    (Element::U64, "<u8", 8),
];

impl Element {
    fn row(self) -> &'static (Self, &'static str, usize) {
        ELEMENTS.iter().find(|(element, ..)| *element == self).unwrap_or(&ELEMENTS[0])
    }

    /// Bytes of an element.
    pub fn size(self) -> usize {
        self.row().2
    }
}

/// What stands before the values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Type of the elements.
    pub element: Element,
    /// Whether columns are together in memory, not rows.
    pub fortran: bool,
    /// Length of each axis.
    pub shape: Vec<usize>,
}

impl Header {
    /// Reads a header and leaves `input` at the first value.
    ///
    /// # Errors
    ///
    /// What reading gives; [`io::ErrorKind::InvalidData`] for anything but an array of the known elements.
    pub fn read(input: &mut dyn Read) -> io::Result<Self> {
        let mut start = [0; 8];
        input.read_exact(&mut start)?;
        if !start.starts_with(MAGIC) {
            return Err(invalid("it is no array of NumPy's (.npy)"));
        }
        let mut len = [0; 4];
        let wide = start[6] >= 2;
        input.read_exact(&mut len[..if wide { 4 } else { 2 }])?;
        let len = u32::from_le_bytes(len);
        if len > 1 << 16 {
            return Err(invalid("its header is too long"));
        }
        let mut text = vec![0; len as usize];
        input.read_exact(&mut text)?;
        let text = String::from_utf8_lossy(&text).replace(' ', "");
        let after = |key: &str| text.split_once(&format!("'{key}':")).map(|(_, rest)| rest);
        let descr = after("descr").and_then(|rest| rest.strip_prefix('\'')?.split('\'').next());
        let found = ELEMENTS.iter().find(|(_, name, _)| Some(*name) == descr);
        let Some(&(element, ..)) = found else {
            return Err(invalid(format!("its elements are {}", descr.unwrap_or("unknown"))));
        };
        let fortran = match after("fortran_order") {
            Some(rest) if rest.starts_with("True") => true,
            Some(rest) if rest.starts_with("False") => false,
            _ => return Err(invalid("its header has no order")),
        };
        let shape = after("shape").and_then(|rest| rest.strip_prefix('(')?.split(')').next());
        let axes = shape.unwrap_or("?").split(',').filter(|axis| !axis.is_empty());
        let shape: Option<Vec<usize>> = axes.map(|axis| axis.parse().ok()).collect();
        let shape = shape.ok_or_else(|| invalid("its header has no shape"))?;
        Ok(Self { element, fortran, shape })
    }

    /// Number of elements, if their bytes can be counted.
    pub fn len(&self) -> Option<usize> {
        let count = self.shape.iter().try_fold(1_usize, |count, &axis| count.checked_mul(axis))?;
        count.checked_mul(self.element.size()).map(|_| count)
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// The header's bytes, of which there are `total` at least, filled up with spaces.
    fn bytes(&self, total: usize) -> Vec<u8> {
        let axes: String = self.shape.iter().map(|axis| format!("{axis}, ")).collect();
        let order = if self.fortran { "True" } else { "False" };
        let text =
            format!("{{'descr': '{}', 'fortran_order': {order}, 'shape': ({axes}), }}", self.element.row().1);
        let text = text.replace(", ), ", if self.shape.len() == 1 { ",), " } else { "), " });
        let end = (MAGIC.len() + 4 + text.len() + 1).next_multiple_of(64).max(total);
        let len = end - MAGIC.len() - 4;
        let mut bytes = [MAGIC, &[1, 0], &(len as u16).to_le_bytes(), text.as_bytes()].concat();
        bytes.resize(end - 1, b' ');
        bytes.push(b'\n');
        bytes
    }
}

fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

/// Reads an array of floats, in C order, as `f64`.
///
/// # Errors
///
/// What reading gives; [`io::ErrorKind::InvalidData`] for a damaged array, one of integers, or of more than
/// `most` elements.
pub fn read_f64(input: &mut dyn Read, most: usize) -> io::Result<(Vec<usize>, Vec<f64>)> {
    let header = Header::read(input)?;
    let bytes = read_bytes(input, &header, most)?;
    let values: Vec<f64> = match header.element {
        Element::F16 => bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f64()).collect(),
        Element::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect(),
        Element::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        Element::I64 | Element::U64 => return Err(invalid("it holds integers")),
    };
    let values = match (header.fortran, &header.shape[..]) {
        (true, &[rows, columns]) => {
            (0..rows).flat_map(|row| values[row..].iter().step_by(rows).take(columns)).copied().collect()
        }
        _ => values,
    };
    Ok((header.shape, values))
}

/// Reads an array of integers of 64 bits as they are.
///
/// # Errors
///
/// As [`read_f64`].
pub fn read_u64(input: &mut dyn Read, most: usize) -> io::Result<(Vec<usize>, Vec<u64>)> {
    let header = Header::read(input)?;
    if header.fortran || !matches!(header.element, Element::I64 | Element::U64) {
        return Err(invalid("it does not hold integers in C order"));
    }
    let bytes = read_bytes(input, &header, most)?;
    Ok((header.shape, bytes.as_chunks().0.iter().map(|b| u64::from_le_bytes(*b)).collect()))
}

fn read_bytes(input: &mut dyn Read, header: &Header, most: usize) -> io::Result<Vec<u8>> {
    let count = header.len().filter(|&count| count <= most);
    let count = count.ok_or_else(|| invalid(format!("its shape {:?} is too large", header.shape)))?;
    let len = count * header.element.size();
    let mut bytes = Vec::new();
    // No memory is taken that the file does not fill.
    input.take(len as u64).read_to_end(&mut bytes)?;
    match bytes.len() == len {
        true => Ok(bytes),
        false => Err(invalid(format!(
            "it has {} bytes of values, and its shape {:?} needs {len}",
            bytes.len(),
            header.shape
        ))),
    }
}

/// Writes an array in one piece.
///
/// # Errors
///
/// What writing gives.
pub fn write(output: &mut impl Write, element: Element, shape: &[usize], values: &[u8]) -> io::Result<()> {
    let header = Header { element, fortran: false, shape: shape.to_vec() };
    output.write_all(&header.bytes(0))?;
    output.write_all(values)
}

/// Writes rows one after the other, and then how many they were.
#[derive(Debug)]
pub struct Writer<W: Write + Seek> {
    output: W,
    element: Element,
    dimensions: usize,
    rows: usize,
}

impl<W: Write + Seek> Writer<W> {
    /// Starts an array of rows of `dimensions` values. `element` is [`Element::F32`] or [`Element::F16`].
    ///
    /// # Errors
    ///
    /// What writing gives.
    pub fn new(mut output: W, element: Element, dimensions: usize) -> io::Result<Self> {
        output.write_all(&[b' '; HEADER])?;
        Ok(Self { output, element, dimensions, rows: 0 })
    }

    /// Adds rows.
    ///
    /// # Errors
    ///
    /// What writing gives.
    pub fn add(&mut self, rows: &[f32]) -> io::Result<()> {
        self.rows += rows.len() / self.dimensions;
        self.output.write_all(&bytes_of(self.element, rows))
    }

    /// Writes the header, and gives the output back.
    ///
    /// # Errors
    ///
    /// What writing gives.
    pub fn finish(mut self) -> io::Result<W> {
        let header =
            Header { element: self.element, fortran: false, shape: vec![self.rows, self.dimensions] };
        self.output.seek(SeekFrom::Start(0))?;
        self.output.write_all(&header.bytes(HEADER))?;
        self.output.flush()?;
        Ok(self.output)
    }
}

/// Values in the bytes of `element`, which is [`Element::F16`] or otherwise [`Element::F32`].
pub fn bytes_of(element: Element, values: &[f32]) -> Vec<u8> {
    match element {
        Element::F16 => values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}

/// Reads the features of a file, an array of two axes.
///
/// # Errors
///
/// [`Error::Io`] and [`Error::File`]; those of [`Features::new`].
pub fn read_features(path: &Path) -> Result<Features, Error> {
    let io_error = |source| Error::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io_error)?;
    let most = file.metadata().map_err(io_error)?.len() as usize;
    match read_f64(&mut BufReader::new(file), most).map_err(io_error)? {
        (shape, values) if shape.len() == 2 && shape[1] > 0 => {
            Features::new(shape[1], values.into_iter().map(|value| value as f32).collect())
        }
        (shape, _) => {
            let reason = format!("features are an array of two axes, pictures and features, not {shape:?}");
            Err(Error::File { path: path.to_owned(), reason })
        }
    }
}
