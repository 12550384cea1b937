//! Text of configurations.

/// Lines, indented by the braces around them.
#[derive(Default)]
pub(super) struct Text {
    lines: String,
    depth: usize,
}

impl Text {
    pub(super) fn line(&mut self, line: &str) {
        if !line.is_empty() {
            self.lines.extend(std::iter::repeat_n("    ", self.depth));
            self.lines.push_str(line);
        }
        self.lines.push('\n');
    }

    pub(super) fn open(&mut self, what: &str) {
        self.line(&format!("{what} {{"));
        self.depth += 1;
    }

    pub(super) fn close(&mut self) {
        self.depth -= 1;
        self.line("}");
    }

    pub(super) fn nest(&mut self, inner: &Self) {
        for line in inner.lines.lines() {
            self.line(line);
        }
    }

    pub(super) fn finish(self) -> String {
        self.lines
    }
}
