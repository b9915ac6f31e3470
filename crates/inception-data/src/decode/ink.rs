//! Ink to light.

use super::options::Reader;

/// Cyan, magenta, yellow and black as Adobe stores them in JPEG, inverted (255 is no ink), to RGB by the
/// formula of `reader`: cv2's `icvCvt_CMYK2BGR_8u_C4C3R`, Pillow's `cmyk2rgb`. They differ by one at most.
pub(super) fn ink_to_rgb([cyan, magenta, yellow, black]: [u8; 4], reader: Reader) -> [u8; 3] {
    let black = u32::from(black);
    // At most `black`, so it fits.
    [cyan, magenta, yellow].map(|ink| {
        let product = (255 - u32::from(ink)) * black;
        let covered = match reader {
            Reader::OpenCv => product >> 8,
            // A division by 255, rounded to the nearest.
            Reader::Pillow => (((product + 128) >> 8) + product + 128) >> 8,
        };
        (black - covered) as u8
    })
}
