//! The beginning of a connection: what both sides can (MS-TDS 2.2.6.5), who it is (2.2.6.4).

use std::io::{self, Write};

use super::packets::{self, Message, Reply, Said, odd, packet, utf16};
use super::{Line, Setup};

const ENCRYPT_ON: u8 = 1;
const ENCRYPT_NOT_SUPPORTED: u8 = 2;
/// Where a login says where its user, password and database stand.
const USER: usize = 40;
const PASSWORD: usize = 44;
const DATABASE: usize = 68;

/// Whether a client wants to encrypt.
pub fn wants_encryption(hello: &Message) -> io::Result<bool> {
    if hello.kind != packets::PRELOGIN {
        return Err(odd());
    }
    let mut options = hello
        .bytes
        .chunks_exact(5)
        .take_while(|option| option[0] != 0xff);
    let found = options.find(|option| option[0] == 1).ok_or_else(odd)?;
    let at = usize::from(u16::from_be_bytes([found[1], found[2]]));
    let level = *hello.bytes.get(at).ok_or_else(odd)?;
    Ok(level == ENCRYPT_ON)
}

/// Says what we are and whether we encrypt.
pub fn greet(line: &mut impl Write, seals: bool) -> io::Result<()> {
    let level = if seals {
        ENCRYPT_ON
    } else {
        ENCRYPT_NOT_SUPPORTED
    };
    let options = [
        0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xff, 16, 0, 0x10, 0x09, 0, 0, level,
    ];
    line.write_all(&packet(packets::REPLY, &options, true))
}

/// Lets a client in, or not.
pub fn login(line: &mut dyn Line, setup: &Setup) -> io::Result<bool> {
    let message = Message::read(line)?;
    if message.kind != packets::LOGIN {
        return Err(odd());
    }
    let user = utf16(part(&message.bytes, USER)?)?;
    let hidden = part(&message.bytes, PASSWORD)?.iter();
    let plain: Vec<u8> = hidden.map(|byte| (byte ^ 0xa5).rotate_left(4)).collect();
    let database = utf16(part(&message.bytes, DATABASE)?)?;
    let mut reply = Reply::new(line);
    let is_known = user == setup.user && utf16(&plain)? == setup.password;
    if is_known && database == "master" {
        reply.changed(4, "4096", "4096");
        reply.changed(1, &database, "master");
        reply.welcome();
        reply.done(0, 0);
    } else if is_known {
        let words = format!(
            "Cannot open database \"{database}\" requested by the login. The login failed."
        );
        reply.failed(&[Said::new(4060, 11, words)]);
    } else {
        let words = format!("Login failed for user '{user}'.");
        reply.failed(&[Said::new(18456, 14, words)]);
    }
    reply.end()?;
    Ok(is_known)
}

/// A text of a login: its place and length in characters stand at `at`.
fn part(bytes: &[u8], at: usize) -> io::Result<&[u8]> {
    let number = |at: usize| {
        let two = bytes.get(at..at + 2).ok_or_else(odd)?;
        Ok::<_, io::Error>(usize::from(u16::from_le_bytes([two[0], two[1]])))
    };
    let (start, length) = (number(at)?, number(at + 2)?);
    bytes.get(start..start + 2 * length).ok_or_else(odd)
}
