//! The names of classes, in the forms in which people keep them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::error::Error;

/// Longest file of names that is read, in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// The names in a file, in the order of the classes: one a line; PaddleClas's `0 name` lines; a list in JSON;
/// or an object in JSON from numbers to names, Keras's `{"0": ["n01440764", "tench"]}` among them, or from
/// names to numbers, torchvision's `class_to_idx`.
///
/// # Errors
///
/// [`Error::Labels`].
pub fn read_labels(path: impl AsRef<Path>) -> Result<Vec<String>, Error> {
    let path = path.as_ref();
    let fail = |reason: String| Error::Labels { path: path.to_owned(), reason };
    let length = std::fs::metadata(path).map_err(|e| fail(e.to_string()))?;
    if !length.is_file() || length.len() > MAX_BYTES {
        return Err(fail("not a file of names".to_owned()));
    }
    let text = std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
    parse_labels(&text).map_err(fail)
}

/// The names in a text, as [`read_labels`] finds them.
///
/// # Errors
///
/// What is wrong with it.
pub fn parse_labels(text: &str) -> Result<Vec<String>, String> {
    let text = text.trim_start_matches('\u{feff}').trim_end();
    if text.trim_start().starts_with(['[', '{']) {
        return json(&serde_json::from_str(text).map_err(|e| e.to_string())?);
    }
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    let numbered = |lines: &[&str]| {
        let pairs = lines.iter().map(|line| {
            let (number, name) = line.split_once([' ', '\t', ',', ':'])?;
            Some((number.parse::<usize>().ok()?, name.trim().to_owned()))
        });
        pairs.collect::<Option<Vec<_>>>()
    };
    // Numbers of classes, and not the first words of a few names.
    let count_classes =
        |pairs: &[(usize, String)]| pairs.len() > 2 && pairs.iter().any(|(number, _)| *number == 1);
    if let Some(pairs) = numbered(&lines) {
        let counted = count_classes(&pairs);
        match in_order(pairs) {
            Err(reason) if counted => return Err(reason),
            Err(_) => {}
            names => return names,
        }
    } else if numbered(&lines[1..]).is_some_and(|pairs| count_classes(&pairs)) {
        return Err(format!("line 1, `{}`, is the only one without the number of a class", lines[0]));
    }
    match lines.iter().position(|line| line.is_empty()) {
        Some(empty) => Err(format!("line {} is empty", empty + 1)),
        None => Ok(lines.into_iter().map(str::to_owned).collect()),
    }
}

fn json(value: &Value) -> Result<Vec<String>, String> {
    let name = |value: &Value| match value {
        Value::String(name) => Some(name.clone()),
        // WordNet's id and the name.
        Value::Array(parts) => parts.last().and_then(Value::as_str).map(str::to_owned),
        _ => None,
    };
    let bad = || "neither a list of names nor names with the numbers of their classes".to_owned();
    match value {
        Value::Array(names) => names.iter().map(|value| name(value).ok_or_else(bad)).collect(),
        Value::Object(pairs) => {
            // As torchvision's datasets, Hugging Face's and timm's descriptions of models have them among others.
            let inner = ["class_to_idx", "id2label", "label_names"].iter().find_map(|key| pairs.get(*key));
            if let Some(inner) = inner {
                return json(inner);
            }
            let by_number = pairs.iter().map(|(key, value)| Some((key.parse::<usize>().ok()?, name(value)?)));
            let by_name =
                pairs.iter().map(|(key, value)| Some((usize::try_from(value.as_u64()?).ok()?, key.clone())));
            let found = by_number.collect::<Option<Vec<_>>>().or_else(|| by_name.collect());
            match (found, pairs.len()) {
                (Some(found), 1..) => in_order(found),
                (_, 1) => json(pairs.values().next().ok_or_else(bad)?),
                _ => Err(bad()),
            }
        }
        _ => Err(bad()),
    }
}

/// Names by the numbers of their classes, which have to be all from 0 on, or all from 1 on.
fn in_order(pairs: Vec<(usize, String)>) -> Result<Vec<String>, String> {
    let count = pairs.len();
    let by_number: BTreeMap<usize, String> = pairs.into_iter().collect();
    let counts_from = |first: usize| by_number.keys().copied().eq(first..first + count);
    match counts_from(0) || counts_from(1) {
        true => Ok(by_number.into_values().collect()),
        false => Err(format!(
            "the numbers of {count} classes are neither 0 to {} nor 1 to {count}",
            count.saturating_sub(1)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_every_form() {
        for text in [
            "cat\ndog, hound\n",
            "\u{feff}cat\r\ndog, hound\r\n\r\n",
            "0 cat\n1 dog, hound\n",
            "1 dog, hound\n0 cat",
            "1 cat\n2 dog, hound\n",
            r#"{"1": "cat", "2": "dog, hound"}"#,
            r#"{"dog, hound": 2, "cat": 1}"#,
            r#"["cat", "dog, hound"]"#,
            r#"{"0": "cat", "1": "dog, hound"}"#,
            r#"{"0": ["n02123045", "cat"], "1": ["n02084071", "dog, hound"]}"#,
            r#"{"dog, hound": 1, "cat": 0}"#,
            r#"{"class_to_idx": {"dog, hound": 1, "cat": 0}, "epoch": 3}"#,
            r#"{"id2label": {"0": "cat", "1": "dog, hound"}, "label2id": {"cat": 0, "dog, hound": 1}}"#,
            r#"{"num_classes": 2, "label_names": ["cat", "dog, hound"]}"#,
            r#"{"names": {"dog, hound": 1, "cat": 0}}"#,
        ] {
            assert_eq!(parse_labels(text), Ok(vec!["cat".to_owned(), "dog, hound".to_owned()]), "{text}");
        }
        // Names that begin with numbers, but not those of the classes.
        assert_eq!(parse_labels("3 musketeers\n7 dwarfs").map(|names| names.len()), Ok(2));
        for text in [
            "",
            "a\n\nb",
            // One number is left out, or there twice; a head, which would be the first class.
            "0 cat\n1 dog\n3 fox",
            "0 cat\n1 dog\n1 fox",
            "id,name\n0,cat\n1,dog\n2,fox",
            "{}",
            "[1, 2]",
            r#"{"a": 0, "b": 2}"#,
            r#"{"a": 0, "b": 0}"#,
            "[",
            "{\"a\": {}}",
            r#"{"a": 2, "b": 3}"#,
        ] {
            assert!(parse_labels(text).is_err(), "{text}");
        }
    }
}
