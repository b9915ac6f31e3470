//! Counts of a scan for images.

use std::fmt;

/// Counts of what a scan found besides ordinary images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScanStats {
    /// Images that are symbolic links to files; they are used.
    pub links: usize,
    /// Hidden files and folders (`.name`), left out.
    pub hidden: usize,
    /// Files whose name is not an image's, and what is no file at all, left out.
    pub other_files: usize,
    /// Pictures outside any class's folder, left out.
    pub loose_pictures: usize,
    /// Links to folders inside a class, left out because they may lead in a circle.
    pub folder_links: usize,
    /// Classes that have a folder without an image.
    pub empty_classes: usize,
    /// Folders that are classes by their sorted names, because their names say no class.
    pub sorted_classes: usize,
}

impl fmt::Display for ScanStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.links, "linked pictures"),
            (self.hidden, "hidden files or folders"),
            (self.other_files, "files that are no pictures"),
            (self.loose_pictures, "pictures outside the folders of classes"),
            (self.folder_links, "links to folders"),
            (self.empty_classes, "classes without a picture"),
            (self.sorted_classes, "folders that are classes 0, 1, 2... in the order of their names"),
        ];
        let mut seen = counts.into_iter().filter(|(count, _)| *count > 0).peekable();
        if seen.peek().is_none() {
            return f.write_str("nothing else was met");
        }
        f.write_str("met ")?;
        for (index, (count, what)) in seen.enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{count} {what}")?;
        }
        Ok(())
    }
}
