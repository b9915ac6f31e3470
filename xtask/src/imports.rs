//! No file of a crate imports from itself by way of others: where two need each other, one of them holds too
//! much.
//!
//! An import counts towards the file that defines the item: re-exports are followed, and are no imports
//! themselves, so that a `lib.rs` that only declares and re-exports is in no cycle. Tests do not count.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// A path of a `use` or an expression, without `crate`.
type Segments = Vec<String>;

/// A file and what it says of others.
#[derive(Default)]
struct File {
    path: PathBuf,
    imports: Vec<Segments>,
    /// The name, and what it stands for.
    reexports: Vec<(String, Segments)>,
}

/// The files of a crate by their modules.
type Files = BTreeMap<Segments, File>;

/// Fails with the shortest cycle of the first crate that has one.
pub fn check() -> anyhow::Result<()> {
    let mut folders = vec![PathBuf::from("xtask")];
    for entry in fs::read_dir("crates").context("reading crates: is this the workspace's root?")? {
        folders.push(entry?.path());
    }
    folders.sort();
    for folder in folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(cycle) = shortest_cycle(&read(&folder.join("src"))?) {
            let files: Vec<String> = cycle.iter().map(|path| path.display().to_string()).collect();
            bail!("circular imports in {name}: {}", files.join(" -> "));
        }
    }
    Ok(())
}

/// Reads the modules of a crate.
fn read(src: &Path) -> anyhow::Result<Files> {
    let mut texts: BTreeMap<Segments, (PathBuf, String)> = BTreeMap::new();
    let mut folders = vec![src.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let in_library =
                path.file_name().is_some_and(|name| name == "main.rs") && src.join("lib.rs").exists();
            if path.extension().is_none_or(|extension| extension != "rs") || in_library {
                continue;
            }
            let inside = path.strip_prefix(src)?.with_extension("");
            let mut module: Segments =
                inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&&**last)) {
                module.pop();
            }
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            texts.insert(module, (path, text));
        }
    }
    let modules: HashSet<Segments> = texts.keys().cloned().collect();
    Ok(texts
        .into_iter()
        .map(|(module, (path, text))| {
            let file = File { path, ..scan(&text, &module, &modules) };
            (module, file)
        })
        .collect())
}

/// Whether a line begins a module within the file.
fn is_module(line: &str) -> bool {
    let line = line.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
    line.starts_with("mod ") && line.ends_with('{')
}

/// A line without the paths of visibilities: `pub(in crate::a)` says who may see an item, and imports
/// nothing.
fn without_visibility(line: &str) -> String {
    let mut parts = line.split("pub(in ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |line, part| line + "pub" + part.split_once(')').map_or(part, |(_, rest)| rest))
}

/// What a file imports and re-exports.
fn scan(text: &str, module: &[String], modules: &HashSet<Segments>) -> File {
    let mut file = File::default();
    let mut statement = String::new();
    let mut inline = false;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        // Without what stands in quotes, then without a comment.
        let line = line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
        let line = &*without_visibility(line.split("//").next().unwrap_or_default());
        // A module of tests comes last in a file.
        if line == "#[cfg(test)]" && lines.clone().find(|next| !next.starts_with('#')).is_some_and(is_module)
        {
            break;
        }
        inline = is_module(line) || inline && line != "}";
        // `super` of a module within the file is the file itself.
        statement += &if inline { line.replace("super::", "self::") } else { line.to_owned() };
        statement.push('\n');
        let is_use = ["use ", "pub use ", "pub(crate) use ", "pub(super) use "]
            .iter()
            .any(|start| statement.trim_start().starts_with(start));
        if is_use && !line.trim_end().ends_with(';') {
            continue;
        }
        let statement = std::mem::take(&mut statement);
        let paths = paths(&statement, module, modules);
        if is_use && statement.trim_start().starts_with("pub") {
            let named = paths.into_iter().map(|(path, alias)| {
                let name = alias.or_else(|| path.last().cloned());
                (name.unwrap_or_default(), path)
            });
            file.reexports.extend(named);
        } else {
            file.imports.extend(paths.into_iter().map(|(path, _)| path));
        }
    }
    file
}

/// The paths within the crate that a statement of `module` names, from the crate's root on, each with what it
/// is renamed to.
fn paths(statement: &str, module: &[String], modules: &HashSet<Segments>) -> Vec<(Segments, Option<String>)> {
    let mut found = Vec::new();
    let mut rest = statement;
    let mut before = ' ';
    while let Some(start) = rest.find(|c: char| c.is_alphabetic() || c == '_') {
        before = rest[..start].chars().next_back().unwrap_or(before);
        rest = &rest[start..];
        let word = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        let child = || [module, &[word.to_owned()]].concat();
        let base = match word {
            _ if before == ':' || before.is_alphanumeric() => None,
            "crate" => Some(Vec::new()),
            "self" => Some(module.to_vec()),
            "super" => Some(module[..module.len().saturating_sub(1)].to_vec()),
            _ if modules.contains(&child()) => Some(child()),
            _ => None,
        };
        rest = &rest[word.len()..];
        before = 'x';
        if let (Some(base), Some(after)) = (base, rest.strip_prefix("::")) {
            rest = tree(after, base, &mut found);
        }
    }
    found
}

/// Reads what follows `base::`, a path or a group of them, and gives what is left of the text.
fn tree<'a>(text: &'a str, base: Segments, found: &mut Vec<(Segments, Option<String>)>) -> &'a str {
    if let Some(mut rest) = text.strip_prefix('{') {
        while !rest.is_empty() {
            rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
            if let Some(rest) = rest.strip_prefix('}') {
                return rest;
            }
            rest = tree(rest, base.clone(), found);
        }
        return rest;
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let base = match word {
        "super" => base[..base.len().saturating_sub(1)].to_vec(),
        "self" | "" => base,
        _ => [base, vec![word.to_owned()]].concat(),
    };
    if let Some(rest) = rest.strip_prefix("::") {
        return tree(rest, base, found);
    }
    // Past `*`, which stands for all of `base`, and past anything that would keep a group from its end.
    let rest = if word.is_empty() {
        rest.get(rest.chars().next().map_or(0, char::len_utf8)..).unwrap_or("")
    } else {
        rest
    };
    let alias = rest.strip_prefix(" as ").map(|alias| {
        let end = alias.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(alias.len());
        alias.split_at(end)
    });
    found.push((base, alias.map(|(alias, _)| alias.to_owned())));
    alias.map_or(rest, |(_, rest)| rest)
}

/// The module whose file defines what a path leads to.
fn definition(files: &Files, path: &[String], depth: usize) -> Segments {
    let module = (0..=path.len()).rev().map(|len| &path[..len]).find(|module| files.contains_key(*module));
    let module = module.unwrap_or_default();
    let item = path.get(module.len());
    let renamed = item.and_then(|item| files.get(module)?.reexports.iter().find(|(name, _)| name == item));
    match renamed {
        // A name that stands for itself would go round.
        Some((_, target)) if depth < 8 && target != path => definition(files, target, depth + 1),
        _ => module.to_vec(),
    }
}

/// The files of the shortest cycle; the first one stands at its end, too.
fn shortest_cycle(files: &Files) -> Option<Vec<PathBuf>> {
    let edges = |module: &Segments| -> HashSet<Segments> {
        let imports = files.get(module).into_iter().flat_map(|file| &file.imports);
        imports.map(|path| definition(files, path, 0)).filter(|target| target != module).collect()
    };
    let edges: BTreeMap<&Segments, HashSet<Segments>> =
        files.keys().map(|module| (module, edges(module))).collect();
    let cycle_of = |start: &Segments| -> Option<Vec<Segments>> {
        let mut seen = HashSet::new();
        let mut queue = VecDeque::from([vec![start.clone()]]);
        while let Some(way) = queue.pop_front() {
            for next in edges.get(way.last()?)? {
                let longer = [&way[..], std::slice::from_ref(next)].concat();
                if next == start {
                    return Some(longer);
                }
                if seen.insert(next.clone()) {
                    queue.push_back(longer);
                }
            }
        }
        None
    };
    let shortest = files.keys().filter_map(cycle_of).min_by_key(Vec::len)?;
    Some(shortest.iter().filter_map(|module| Some(files.get(module)?.path.clone())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cycle(texts: &[(&str, &str)]) -> Option<Vec<String>> {
        let module = |name: &str| -> Segments { name.split_terminator("::").map(str::to_owned).collect() };
        let modules: HashSet<Segments> = texts.iter().map(|(name, _)| module(name)).collect();
        let file = |(name, text): &(&str, &str)| {
            let scanned = scan(text, &module(name), &modules);
            (module(name), File { path: name.into(), ..scanned })
        };
        let cycle = shortest_cycle(&texts.iter().map(file).collect())?;
        Some(cycle.iter().map(|path| path.display().to_string()).collect())
    }

    #[test]
    fn cycles_are_found_through_reexports_and_groups() {
        let lib = ("", "mod a;\nmod b;\npub use a::One;\npub use b::{\n    Two, Three as Drei,\n};\n");
        let one_way = [lib, ("a", "use crate::{Two, b::Four};\n"), ("b", "pub struct Two;\n")];
        assert_eq!(cycle(&one_way), None, "the library's own file is in no cycle");
        let round = [lib, ("a", "use crate::{Two};\n"), ("b", "fn f() -> crate::One { todo() }\n")];
        assert_eq!(cycle(&round).unwrap_or_default(), ["a", "b", "a"]);
        let renamed = [lib, ("a", "use super::Drei;\n"), ("b", "fn f(_: crate::a::One) {}\n")];
        assert_eq!(cycle(&renamed).unwrap_or_default(), ["a", "b", "a"]);
        let commented = [
            lib,
            ("a", "use super::Drei;\n"),
            ("b", "// crate::One\n#[cfg(test)]\nmod tests {\n    use crate::One;\n}\n"),
        ];
        assert_eq!(cycle(&commented), None);
    }

    #[test]
    fn a_visibility_is_no_import_and_hides_none() {
        let files =
            |inner| [("", "mod a;\n"), ("a", "mod inner;\nfn f() { inner::f() }\n"), ("a::inner", inner)];
        assert_eq!(cycle(&files("pub(in crate::a) fn f() {}\n")), None);
        assert_eq!(cycle(&files("pub(in super::super) struct One(pub(in crate::a) u8);\n")), None);
        let round =
            cycle(&files("pub(in crate::a) fn f() -> crate::a::Two { todo() }\n")).unwrap_or_default();
        assert_eq!(round, ["a", "a::inner", "a"]);
        // A re-export is one whoever may see it.
        let reexport = [
            ("", "mod a;\nmod b;\npub(in crate) use a::One;\n"),
            ("a", "use crate::b::Two;\n"),
            ("b", "use crate::One;\n"),
        ];
        assert_eq!(cycle(&reexport).unwrap_or_default(), ["a", "b", "a"]);
    }

    #[test]
    fn a_module_that_uses_its_child_is_not_used_by_it() {
        let inner = ("a::inner", "use super::Outer;\n");
        let files = |outer| [("", "mod a;\n"), ("a", outer), inner];
        assert_eq!(cycle(&files("mod inner;\npub use inner::Inner;\nstruct Outer;\n")), None);
        let round = cycle(&files("mod inner;\nfn f() { inner::f() }\n")).unwrap_or_default();
        assert_eq!(round, ["a", "a::inner", "a"]);
        let inline = [("", "mod a;\n"), ("a", "mod one {\n    use super::Two;\n}\nstruct Two;\n")];
        assert_eq!(cycle(&inline), None);
    }
}
