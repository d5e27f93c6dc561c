//! Reading the JSON bodies of our own pages field by field: every problem is found, none repeats a value.

use std::borrow::Cow;
use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value};

use super::asked::Asked;
use crate::model::json::{Members, NotAnObject};
use crate::model::rejection::{FieldProblem, Rejection};

/// Cap on bodies of `/auth`, in bytes.
pub(super) const MAX_BODY_BYTES: usize = 16 * 1024;

/// A name of an unknown field is repeated to the client up to so many characters.
const MAX_NAME_CHARS: usize = 64;

/// A body being read. Fields are taken out; what stays is unknown.
pub(super) struct Fields {
    members: Map<String, Value>,
    problems: Vec<FieldProblem>,
}

impl Fields {
    /// Takes a body as JSON object; answers with all problems of its form.
    pub(super) fn read(asked: &Asked, body: Result<Bytes, BytesRejection>) -> Result<Fields, Rejection> {
        if !asked.text(CONTENT_TYPE.as_str()).is_some_and(is_json) {
            return Err(Rejection::UnsupportedMediaType);
        }
        let body = body.map_err(|error| match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Rejection::PayloadTooLarge,
            _ => Rejection::BadRequest("body broke off"),
        })?;
        let members = Members::parse(&body).map_err(|error| match error {
            NotAnObject::Syntax => Rejection::InvalidJson,
            NotAnObject::OtherValue => Rejection::Validation(vec![problem("body", "must be an object")]),
        })?;
        let members = members
            .into_map()
            .map_err(|twice| Rejection::Validation(vec![problem(shorten(&twice), "must be given once")]))?;
        Ok(Fields { members, problems: Vec::new() })
    }

    /// A field that must be there.
    pub(super) fn required(&mut self, name: &'static str) -> Option<String> {
        match self.members.remove(name) {
            Some(Value::String(text)) => Some(text),
            None => self.fault(name, "required"),
            Some(_) => self.fault(name, "must be a string"),
        }
    }

    /// A number that must be there.
    pub(super) fn number(&mut self, name: &'static str) -> Option<i64> {
        match self.members.remove(name) {
            Some(Value::Number(number)) => self.check(name, number.as_i64().ok_or("must be a whole number")),
            None => self.fault(name, "required"),
            Some(_) => self.fault(name, "must be a whole number"),
        }
    }

    /// A list of texts that may be absent.
    pub(super) fn texts(&mut self, name: &'static str) -> Option<Vec<String>> {
        let list = match self.members.remove(name) {
            None => return Some(Vec::new()),
            Some(Value::Array(list)) => list,
            Some(_) => return self.fault(name, "must be a list of strings"),
        };
        let texts = list.into_iter().map(|item| match item {
            Value::String(text) => Ok(text),
            _ => Err("must be a list of strings"),
        });
        self.check(name, texts.collect())
    }

    /// A field that must be there and mean something.
    pub(super) fn parsed<T: FromStr<Err = &'static str>>(&mut self, name: &'static str) -> Option<T> {
        let text = self.required(name)?;
        self.check(name, text.parse())
    }

    /// A field that may be absent; `null` is not absence.
    pub(super) fn optional(&mut self, name: &'static str) -> Option<String> {
        if self.members.contains_key(name) { self.required(name) } else { None }
    }

    /// The same for a yes or no.
    pub(super) fn optional_bool(&mut self, name: &'static str) -> Option<bool> {
        match self.members.remove(name)? {
            Value::Bool(value) => Some(value),
            _ => self.fault(name, "must be true or false"),
        }
    }

    /// Notes what is wrong with a field that was read.
    pub(super) fn check<T>(&mut self, name: &'static str, result: Result<T, &'static str>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(why) => self.fault(name, why),
        }
    }

    /// The refusal that names every problem, unknown fields included; `Ok` when there is none.
    pub(super) fn finish(mut self) -> Result<(), Rejection> {
        for name in self.members.keys() {
            self.problems.push(problem(shorten(name), "unknown field"));
        }
        if self.problems.is_empty() { Ok(()) } else { Err(Rejection::Validation(self.problems)) }
    }

    /// Notes a problem.
    pub(super) fn fault<T>(&mut self, name: impl Into<Cow<'static, str>>, why: &'static str) -> Option<T> {
        self.problems.push(problem(name, why));
        None
    }
}

/// What is wrong with one field.
pub(super) fn problem(field: impl Into<Cow<'static, str>>, problem: &'static str) -> FieldProblem {
    FieldProblem { field: field.into(), problem: problem.into() }
}

fn shorten(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect()
}

fn is_json(content_type: &str) -> bool {
    content_type.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}
