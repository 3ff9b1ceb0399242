//! Reads a source's or target's parameters key by key, so that every problem is told at once: a
//! derived deserialiser stops at the first.

use std::cell::RefCell;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use xinqiao_core::spi::{ParamProblem, SecretRef, Secrets};

/// Problems found so far.
pub(crate) type Problems = RefCell<Vec<ParamProblem>>;

/// One object of parameters. Keys nobody asked for are a problem: see [`Params::done`].
pub(crate) struct Params<'a> {
    map: Option<&'a Map<String, Value>>,
    at: String,
    known: Vec<&'static str>,
    problems: &'a Problems,
}

impl<'a> Params<'a> {
    /// The outermost object.
    pub(crate) fn new(value: &'a Value, problems: &'a Problems) -> Self {
        Self::at(value, String::new(), problems)
    }

    fn at(value: &'a Value, at: String, problems: &'a Problems) -> Self {
        let params = Self { map: value.as_object(), at, known: Vec::new(), problems };
        if params.map.is_none() {
            params.problem("应为“参数名: 值”的一组参数");
        }
        params
    }

    /// Adds a problem of this object as a whole.
    pub(crate) fn problem(&self, text: &str) {
        let at = self.at.trim_end_matches('.').to_owned();
        self.problems.borrow_mut().push(ParamProblem { at, text: text.to_owned() });
    }

    /// Adds a problem of one key.
    pub(crate) fn problem_of(&self, key: &str, text: &str) {
        let at = format!("{}{key}", self.at);
        self.problems.borrow_mut().push(ParamProblem { at, text: text.to_owned() });
    }

    /// Reports the keys that nobody asked for.
    pub(crate) fn done(self) {
        let valid = self.known.join("、");
        for key in self.map.into_iter().flat_map(Map::keys) {
            if !self.known.contains(&key.as_str()) {
                self.problem_of(key, &format!("没有这个参数,可用的有:{valid}"));
            }
        }
    }

    fn get(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.push(key);
        self.map?.get(key).filter(|value| !value.is_null())
    }

    /// Whether a key is given; does not count as asking for it.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.map.and_then(|map| map.get(key)).is_some_and(|value| !value.is_null())
    }

    /// A text; numbers are taken as written.
    pub(crate) fn text(&mut self, key: &'static str) -> Option<String> {
        let value = self.get(key)?;
        let text = scalar(value);
        if text.is_none() {
            self.problem_of(key, "应为文本");
        }
        text
    }

    /// A text that must be there and not be empty.
    pub(crate) fn need_text(&mut self, key: &'static str) -> String {
        if !self.has(key) {
            self.known.push(key);
            self.problem_of(key, "缺少此参数");
            return String::new();
        }
        let text = self.text(key).unwrap_or_default();
        if text.trim().is_empty() && self.map.and_then(|m| m.get(key)).is_some_and(Value::is_string)
        {
            self.problem_of(key, "不能为空");
        }
        text
    }

    /// A text, or an object that stands for its JSON text.
    pub(crate) fn text_or_json(&mut self, key: &'static str) -> Option<String> {
        match self.get(key)? {
            value @ (Value::Object(_) | Value::Array(_)) => Some(value.to_string()),
            value => scalar(value),
        }
    }

    /// Seconds, fractions allowed, at least `least`.
    pub(crate) fn seconds(
        &mut self,
        key: &'static str,
        default: Duration,
        least: Duration,
    ) -> Duration {
        let Some(value) = self.get(key) else { return default };
        let given = value.as_f64().and_then(|s| Duration::try_from_secs_f64(s).ok());
        match given {
            Some(given) if given >= least && given <= MOST => given,
            _ => {
                let least = least.as_millis();
                let text = format!("应为秒数(可带小数),不小于{least}毫秒,不大于366天");
                self.problem_of(key, &text);
                default
            }
        }
    }

    /// A whole number from 1.
    pub(crate) fn number(&mut self, key: &'static str, default: u64) -> u64 {
        let Some(value) = self.get(key) else { return default };
        value.as_u64().filter(|n| *n > 0).unwrap_or_else(|| {
            self.problem_of(key, "应为正整数");
            default
        })
    }

    /// A whole number from 0.
    pub(crate) fn count(&mut self, key: &'static str, default: u64) -> u64 {
        let Some(value) = self.get(key) else { return default };
        value.as_u64().unwrap_or_else(|| {
            self.problem_of(key, "应为不小于0的整数");
            default
        })
    }

    /// Yes or no.
    pub(crate) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.get(key) else { return default };
        value.as_bool().unwrap_or_else(|| {
            self.problem_of(key, "应为 true 或 false");
            default
        })
    }

    /// One of a list of words.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
        default: T,
    ) -> T {
        let Some(value) = self.get(key) else { return default };
        let found = choices.iter().find(|(word, _)| value.as_str() == Some(word));
        match found {
            Some((_, choice)) => *choice,
            None => {
                let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
                self.problem_of(key, &format!("应为以下之一:{}", words.join("、")));
                default
            }
        }
    }

    /// A list of texts that must not be empty.
    pub(crate) fn some_of(&mut self, key: &'static str, default: &[&str]) -> Vec<String> {
        let list = self.list(key, default);
        if list.is_empty() {
            self.problem_of(key, "不能是空列表,至少要有一个代码");
        }
        list
    }

    /// A list of texts.
    pub(crate) fn list(&mut self, key: &'static str, default: &[&str]) -> Vec<String> {
        let fallback = || default.iter().map(|text| (*text).to_owned()).collect();
        let Some(value) = self.get(key) else { return fallback() };
        let list = value.as_array().and_then(|items| items.iter().map(scalar).collect());
        list.unwrap_or_else(|| {
            self.problem_of(key, "应为文本列表,如 [\"00\", \"200\"]");
            fallback()
        })
    }

    /// An object inside this one.
    pub(crate) fn object(&mut self, key: &'static str) -> Option<Params<'a>> {
        let value = self.get(key)?;
        Some(Params::at(value, format!("{}{key}.", self.at), self.problems))
    }

    /// The keys that are given, for an object whose keys are names of the user's.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.map.into_iter().flat_map(Map::keys).cloned().collect()
    }

    /// An object under a name of the user's.
    pub(crate) fn named(&mut self, key: &str) -> Option<Params<'a>> {
        let value = self.map?.get(key)?;
        Some(Params::at(value, format!("{}{key}.", self.at), self.problems))
    }

    /// A secret by reference, resolved.
    pub(crate) fn need_secret(&mut self, key: &'static str, secrets: &dyn Secrets) -> String {
        let Some(value) = self.get(key) else {
            self.problem_of(key, "缺少此参数");
            return String::new();
        };
        self.resolve(key, value, secrets).unwrap_or_default()
    }

    /// Named texts (`{名称: 文本}`); where `secrets` is given a value may be a secret instead.
    pub(crate) fn pairs(
        &mut self,
        key: &'static str,
        secrets: Option<&dyn Secrets>,
    ) -> Vec<(String, String)> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(map) = value.as_object() else {
            self.problem_of(key, "应为“名称: 文本”的一组");
            return Vec::new();
        };
        let mut pairs = Vec::new();
        for (name, value) in map {
            let at = format!("{key}.{name}");
            let text = match (value, secrets) {
                (Value::Object(_), Some(secrets)) => self.resolve(&at, value, secrets),
                _ => scalar(value).or_else(|| {
                    self.problem_of(&at, "应为文本");
                    None
                }),
            };
            pairs.extend(text.map(|text| (name.clone(), text)));
        }
        pairs
    }

    fn resolve(&self, key: &str, value: &Value, secrets: &dyn Secrets) -> Option<String> {
        let Ok(reference) = SecretRef::deserialize(value) else {
            self.problem_of(
                key,
                "密钥不能写在配置里,应为 { file: 文件路径 } 或 { env: 环境变量名 }",
            );
            return None;
        };
        match secrets.resolve(&reference) {
            Ok(secret) => Some(secret),
            Err(why) => {
                self.problem_of(key, &why);
                None
            }
        }
    }
}

/// The longest time a parameter may name.
const MOST: Duration = Duration::from_secs(366 * 86_400);

/// The text of a JSON text, number or boolean.
pub(crate) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    struct NoSecrets;
    impl Secrets for NoSecrets {
        fn resolve(&self, _: &SecretRef) -> Result<String, String> {
            Err("找不到密钥文件".to_owned())
        }
    }

    #[test]
    fn every_problem_is_told_at_once_with_its_place() {
        let value = json!({
            "url": 7, "poll": "soon", "mode": "x", "lst": [1], "list": {},
            "login": { "user": [], "password": "plain", "other": { "file": "x" }, "extra": 1 },
            "size": 0,
        });
        let problems = Problems::default();
        let mut params = Params::new(&value, &problems);
        assert_eq!(params.need_text("url"), "7");
        assert_eq!(params.need_text("path"), "");
        params.seconds("poll", Duration::ZERO, Duration::ZERO);
        params.choice("mode", &[("a", 1), ("b", 2)], 1);
        params.list("list", &[]);
        params.number("size", 1);
        let mut login = params.object("login").unwrap();
        login.need_text("user");
        login.need_secret("password", &NoSecrets);
        login.need_secret("other", &NoSecrets);
        login.done();
        params.done();
        let problems = problems.into_inner();
        let expect = [
            "参数 path:缺少此参数",
            "参数 poll:应为秒数",
            "参数 mode:应为以下之一:a、b",
            "参数 list:应为文本列表",
            "参数 size:应为正整数",
            "参数 login.user:应为文本",
            "参数 login.password:密钥不能写在配置里",
            "参数 login.other:找不到密钥文件",
            "参数 login.extra:没有这个参数,可用的有:user、password、other",
            "参数 lst:没有这个参数,可用的有:url、path、poll、mode、list、size、login",
        ];
        assert_eq!(problems.len(), expect.len(), "{problems:#?}");
        for (problem, expect) in problems.iter().zip(expect) {
            assert!(problem.to_string().starts_with(expect), "{problem} / {expect}");
        }
    }

    #[test]
    fn fractions_of_a_second_are_seconds() {
        let value = json!({ "a": 0.25, "b": 3, "c": -1, "d": 1e300 });
        let problems = Problems::default();
        let mut params = Params::new(&value, &problems);
        let zero = Duration::ZERO;
        assert_eq!(params.seconds("a", zero, zero), Duration::from_millis(250));
        assert_eq!(params.seconds("b", zero, zero), Duration::from_secs(3));
        assert_eq!(params.seconds("c", zero, zero), zero);
        assert_eq!(params.seconds("d", zero, zero), zero);
        assert_eq!(problems.borrow().len(), 2);
    }
}
