//! HTTP/1.1 as little as it takes: requests with a length, answers with one, connections that stay.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::api::{Reply, Request, answer};
use super::{Call, Guard, Shared, token};

/// Serves one connection to its end.
pub(crate) fn serve(stream: &TcpStream, shared: &Shared) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader) {
        let mut writer = stream;
        let reply = reply(&request, shared);
        if reply.is_lost {
            return;
        }
        let text = reply.body.to_string();
        let cut = reply.code == 200 && take(shared, |faults| &mut faults.cut);
        let retry = match reply.retry_after {
            Some(seconds) => format!("retry-after: {seconds}\r\n"),
            None => String::new(),
        };
        let head = format!(
            "HTTP/1.1 {} X\r\ncontent-type: application/json\r\n{retry}content-length: {}\r\n\r\n",
            reply.code,
            text.len()
        );
        let sent = &text.as_bytes()[..if cut { text.len() / 2 } else { text.len() }];
        let done = writer.write_all(&[head.as_bytes(), sent].concat());
        if cut || done.is_err() {
            return;
        }
    }
}

fn take(shared: &Shared, which: impl Fn(&mut super::Faults) -> &mut u32) -> bool {
    let mut faults = shared.faults.lock().unwrap();
    let left = which(&mut faults);
    let any = *left > 0;
    *left = left.saturating_sub(1);
    any
}

fn read(reader: &mut BufReader<&TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace();
    let (verb, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut length, mut bearer) = (0, None);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "authorization" => bearer = value.trim().strip_prefix("Bearer ").map(str::to_owned),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request {
        verb,
        target,
        bearer,
        body: String::from_utf8(body).ok()?,
    })
}

fn reply(request: &Request, shared: &Shared) -> Reply {
    let mut call = Call {
        method: String::new(),
        read_time: None,
        code: 0,
        writes: 0,
    };
    let reply = match request.target.as_str() {
        "/token" => token_reply(request, shared, &mut call),
        _ => match guard(request, shared) {
            Some(reply) => reply,
            None => answer(request, shared, &mut call),
        },
    };
    call.code = reply.code;
    shared.calls.lock().unwrap().push(call);
    reply
}

fn token_reply(request: &Request, shared: &Shared, call: &mut Call) -> Reply {
    call.method = "token".to_owned();
    if shared.faults.lock().unwrap().no_tokens {
        let body = json!({"error": "invalid_grant", "error_description": "account not found"});
        return Reply::new(400, body);
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let uri = format!("http://{}/token", shared.address);
    let mut tokens = shared.tokens.lock().unwrap();
    let (code, body) = token::answer(&request.body, &uri, now, &mut tokens);
    Reply::new(code, body)
}

/// Whether a call is refused before it is looked at.
fn guard(request: &Request, shared: &Shared) -> Option<Reply> {
    let mut faults = shared.faults.lock().unwrap();
    let mut tokens = shared.tokens.lock().unwrap();
    if std::mem::take(&mut faults.expire) {
        tokens.valid.clear();
    }
    let bearer = request.bearer.as_deref().unwrap_or_default();
    let known = match shared.guard {
        Guard::Emulator => bearer == "owner",
        Guard::Account => tokens.valid.contains(bearer),
    };
    if !known {
        return Some(Reply::refuse(
            401,
            "UNAUTHENTICATED",
            "Request had invalid credentials.",
        ));
    }
    if faults.deny {
        let said = "Missing or insufficient permissions.";
        return Some(Reply::refuse(403, "PERMISSION_DENIED", said));
    }
    if faults.busy > 0 {
        faults.busy -= 1;
        let mut reply = match faults.busy.is_multiple_of(2) {
            true => Reply::refuse(503, "UNAVAILABLE", "The service is currently unavailable."),
            false => Reply::refuse(429, "RESOURCE_EXHAUSTED", "Quota exceeded."),
        };
        reply.retry_after = faults.retry_after;
        return Some(reply);
    }
    None
}

impl Reply {
    /// An answer.
    pub fn new(code: u16, body: Value) -> Reply {
        Reply {
            code,
            body,
            retry_after: None,
            is_lost: false,
        }
    }

    /// A refusal, in the service's words.
    pub fn refuse(code: u16, status: &str, message: &str) -> Reply {
        let error = json!({"code": code, "message": message, "status": status});
        Reply::new(code, json!({"error": error}))
    }
}
