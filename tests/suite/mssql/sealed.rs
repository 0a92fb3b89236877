//! Lines that are sealed, or not, and who may come in.

use std::sync::Arc;

use hucha_sources::database::Cause;
use hucha_tests::fakes::tds::certificate;

use super::taken::take;
use super::{PASSWORD, Stage, assert_told};

#[test]
fn a_sealed_line_to_a_server_that_is_known() {
    let stage = Stage::with(true);
    let file = stage.keep.path().join("server.pem");
    std::fs::write(&file, certificate()).unwrap();
    let known = format!("trust_certificate={}", file.display());
    let taken = take(stage.open("users", &known).as_ref(), &stage.context).unwrap();
    assert_eq!(taken.rows().len(), 2);
    assert!(taken.member.warnings.is_empty());
    let any = stage.open("users", "trust_certificate=any");
    let taken = take(any.as_ref(), &stage.context).unwrap();
    assert!(taken.member.warnings[0].contains("nobody knows who answered"));
    let logins = stage.fake.engine().logins;
    assert_eq!(logins, 4);

    // Nobody hands a password to a server that nobody knows.
    let error = stage
        .open("users", "")
        .preflight(&stage.context)
        .unwrap_err();
    assert_told(&error, Cause::Unreachable, "trust_certificate=FILE");
    assert_eq!(stage.fake.engine().logins, logins);
    std::fs::write(&file, "no certificate").unwrap();
    let error = stage
        .open("users", &known)
        .preflight(&stage.context)
        .unwrap_err();
    assert_told(&error, Cause::Setting, "holds no certificate");
    stage.assert_clean();
}

#[test]
fn a_server_that_does_not_encrypt_gets_no_password_unasked() {
    let stage = Stage::new();
    let error = stage
        .open("users", "")
        .preflight(&stage.context)
        .unwrap_err();
    assert_told(&error, Cause::Unreachable, "does not encrypt");
    assert_eq!(stage.fake.engine().logins, 0);
    stage.plain("users").preflight(&stage.context).unwrap();
    assert_eq!(stage.fake.engine().logins, 1);
}

#[test]
fn passwords_that_are_wrong_or_missing() {
    let stage = Stage::new();
    let mut context = stage.context.clone();
    context.variables = Arc::new(|_| Some("another password".into()));
    let error = stage.plain("users").preflight(&context).unwrap_err();
    assert_told(&error, Cause::Denied, "Login failed for user 'hucha'");
    assert!(!error.in_one().contains("another password"));
    context.variables = Arc::new(|_| None);
    let error = stage.plain("users").preflight(&context).unwrap_err();
    assert_told(&error, Cause::Denied, "SQLCMDPASSWORD");
    let file = stage.keep.path().join("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    let options = format!("encrypt=no&password_file={}", file.display());
    stage.open("users", &options).preflight(&context).unwrap();
}

#[test]
fn a_server_that_is_not_there() {
    let stage = Stage::new();
    let target = stage.plain("users");
    let Stage {
        fake,
        context,
        keep: _keep,
    } = stage;
    drop(fake);
    let error = target.preflight(&context).unwrap_err();
    assert_told(&error, Cause::Unreachable, "cannot be reached");
}
