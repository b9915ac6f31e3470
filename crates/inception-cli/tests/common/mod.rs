//! A command of `inception` as its tests run it.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// `inception` with this command.
pub struct Program(pub &'static str);

impl Program {
    pub fn output(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_inception")).arg(self.0).args(arguments).output().unwrap()
    }

    /// The object of a run that succeeds.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.output(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    /// Standard error of a run that fails as it should: with a message, and with nothing on standard output.
    pub fn failure(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(matches!(output.status.code(), Some(1 | 2)), "{arguments:?}: {:?} {errors}", output.status);
        assert!(errors.contains("error: ") && !errors.contains("panicked"), "{errors}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        errors
    }
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
