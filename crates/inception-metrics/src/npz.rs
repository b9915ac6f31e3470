//! Statistics in NumPy's `.npz`: `mu` and `sigma`, as `pytorch-fid` and `guided-diffusion` write them, and
//! beside them the exact sums, by which parts merge.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::error::Error;
use crate::gaussian::Gaussian;
use crate::limits::MAX_DIMENSIONS;
use crate::npy::{self, Element};
use crate::sums::Sums;

/// Statistics of a file.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// Mean and covariance.
    pub gaussian: Gaussian,
    /// The exact sums, in a file that [`write()`] has written.
    pub sums: Option<Sums>,
}

/// Reads statistics.
///
/// # Errors
///
/// [`Error::Io`]; [`Error::File`], also for entries that are not finite, and for variances below 0.
pub fn read(path: &Path) -> Result<Statistics, Error> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::InvalidData => Error::File { path: path.to_owned(), reason: source.to_string() },
        _ => Error::Io { path: path.to_owned(), source },
    };
    let file = File::open(path).map_err(failed)?;
    let no_zip = |error: zip::result::ZipError| Error::File {
        path: path.to_owned(),
        reason: format!("it is no archive of NumPy's (.npz): {error}"),
    };
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(no_zip)?;
    let names: Vec<String> = archive.file_names().flatten().map(|name| name.into_owned()).collect();
    let has = |name: &str| names.iter().any(|found| found == name);
    if !has("mu.npy") || !has("sigma.npy") {
        let reason = format!("statistics are the arrays mu and sigma; it has {}", names.join(", "));
        return Err(Error::File { path: path.to_owned(), reason });
    }
    let most = MAX_DIMENSIONS * MAX_DIMENSIONS;
    let (shape, mean) =
        array(&mut archive, "mu.npy", |input| npy::read_f64(input, MAX_DIMENSIONS)).map_err(failed)?;
    let (square, covariance) =
        array(&mut archive, "sigma.npy", |input| npy::read_f64(input, most)).map_err(failed)?;
    if shape.len() != 1 || square != [shape[0]; 2] {
        let reason = format!("mu is {shape:?} and sigma {square:?}, not [n] and [n, n]");
        return Err(Error::File { path: path.to_owned(), reason });
    }
    let sums = match has("exact_products.npy") {
        true => {
            let mut integers =
                |name| array(&mut archive, name, |input| npy::read_u64(input, most)).map_err(failed);
            let (_, images) = integers("images.npy")?;
            let (_, sums) = integers("exact_sums.npy")?;
            let (_, products) = integers("exact_products.npy")?;
            let sums = sums.into_iter().map(|sum| sum as i64).collect();
            let (pairs, _) = products.as_chunks();
            let wide = |&[low, high]: &[u64; 2]| (i128::from(high as i64) << 64) | i128::from(low);
            Some(Sums::from_parts(
                images.first().copied().unwrap_or(0),
                sums,
                pairs.iter().map(wide).collect(),
            )?)
        }
        false => None,
    };
    let images = sums.as_ref().map(Sums::images);
    let refused = |reason: String| Error::File { path: path.to_owned(), reason };
    let gaussian = Gaussian::new(mean, covariance, images).map_err(|error| refused(error.to_string()))?;
    match negative_variance(&gaussian) {
        Some((at, variance)) => {
            Err(refused(format!("sigma is no covariance: its variance {at} is {variance}")))
        }
        None => Ok(Statistics { gaussian, sums }),
    }
}

/// How far a variance of 0 may be off, as a share of the largest: tools that sum in single precision lose that
/// much.
const ROUNDED: f64 = 1e-5;

/// A variance below 0 by more than rounding, which no pictures have, and which feature's it is.
fn negative_variance(gaussian: &Gaussian) -> Option<(usize, f64)> {
    let variances = || gaussian.covariance().iter().copied().step_by(gaussian.dimensions() + 1).enumerate();
    let least = -ROUNDED * variances().map(|(_, variance)| variance).fold(0.0, f64::max);
    variances().find(|&(_, variance)| variance < least)
}

/// Reads one member.
fn array<T>(
    archive: &mut ZipArchive<impl Read + Seek>,
    name: &str,
    read: impl FnOnce(&mut dyn Read) -> io::Result<T>,
) -> io::Result<T> {
    let mut member = archive.by_name(name).map_err(io::Error::from)?;
    read(&mut member).map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))
}

/// Writes the statistics of `sums` to `output`: `mu` and `sigma` for other tools, and the sums themselves. `path` is
/// what errors call it.
///
/// # Errors
///
/// [`Error::Io`]; [`Error::TooFew`] with fewer than two pictures.
pub fn write(output: impl Write + Seek, path: &Path, sums: &mut Sums) -> Result<(), Error> {
    let gaussian = sums.gaussian()?;
    let (images, sums, products) = sums.parts();
    let written = || -> io::Result<()> {
        let mut archive = ZipWriter::new(output);
        let bytes = |values: &[f64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let dimensions = gaussian.dimensions();
        let whole = sums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
        let wide = products.iter().flat_map(|product| product.to_le_bytes()).collect();
        let members: [(&str, Element, &[usize], Vec<u8>); 5] = [
            ("mu", Element::F64, &[dimensions], bytes(gaussian.mean())),
            ("sigma", Element::F64, &[dimensions, dimensions], bytes(gaussian.covariance())),
            ("images", Element::U64, &[1], images.to_le_bytes().to_vec()),
            ("exact_sums", Element::I64, &[dimensions], whole),
            ("exact_products", Element::U64, &[products.len(), 2], wide),
        ];
        // Noise does not shrink, and NumPy reads it either way.
        let options =
            SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true);
        for (name, element, shape, values) in members {
            archive.start_file(format!("{name}.npy"), options).map_err(io::Error::from)?;
            npy::write(&mut archive, element, shape, &values)?;
        }
        archive.finish().map_err(io::Error::from)?.flush()
    };
    written().map_err(|source| Error::Io { path: path.to_owned(), source })
}
