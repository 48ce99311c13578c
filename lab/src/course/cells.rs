//! The cells of the course's notebooks, with nbgrader's metadata (schema 3).

use serde_json::{Value, json};

/// The role of a cell in nbgrader.
pub enum Role {
    /// The students write it. Grading needs no points for it, because tests follow.
    Solution,
    /// A test with its points. Grading restores its source.
    Test(u32),
    /// Grading restores its source.
    ReadOnly,
    /// The students write it, and a person gives up to so many points.
    Manual(u32),
}

pub fn markdown(id: &str, source: &str) -> Value {
    json!({ "cell_type": "markdown", "id": id, "metadata": {}, "source": source })
}

/// A cell of type `kind`, `code` or `markdown`. `stub` is the blank that replaces a solution in the released notebook.
pub fn graded(kind: &str, id: &str, role: Role, source: &str, stub: Option<&str>) -> Value {
    let (grade, solution, points) = match role {
        Role::Solution => (false, true, None),
        Role::Test(points) => (true, false, Some(points)),
        Role::ReadOnly => (false, false, None),
        Role::Manual(points) => (true, true, Some(points)),
    };
    let mut nbgrader = json!({
        "schema_version": 3, "grade_id": id, "grade": grade, "solution": solution, "locked": !solution, "task": false,
        "cell_type": kind,
    });
    if let Some(points) = points {
        nbgrader["points"] = json!(points);
    }
    let mut metadata = json!({ "nbgrader": nbgrader });
    if let Some(stub) = stub {
        metadata["vitlab"] = json!({ "stub": stub });
    }
    let mut cell = json!({ "cell_type": kind, "id": id, "metadata": metadata, "source": source });
    if kind == "code" {
        cell["execution_count"] = Value::Null;
        cell["outputs"] = json!([]);
    }
    cell
}

/// Hides code from the students: nbgrader removes it from the released notebook and restores it for grading.
pub fn hidden(code: &str) -> String {
    format!("// BEGIN HIDDEN TESTS\n{code}\n// END HIDDEN TESTS")
}

/// A test in a block of its own, so that its names and those of other cells don't meet.
pub fn block(statements: &str) -> String {
    let lines = statements.lines().map(|line| if line.is_empty() { String::new() } else { format!("    {line}") });
    format!("{{\n{}\n}}", lines.collect::<Vec<_>>().join("\n"))
}
