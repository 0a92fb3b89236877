//! Several sources in one snapshot: databases, a file and a folder, all of them or nothing, unless
//! one may be missing; the manifest says what they held; what is asked for wrongly tells no secret.

use std::fs;
use std::sync::Arc;

use serde_json::Value;

use crate::support::postgres::{Server, server};
use crate::support::private::assert_nothing_left;
use crate::support::sqlite::sqlite;
use crate::support::{Ran, World, assert_same, data, has_tool};

const USERS: &str = "CREATE TABLE user (name TEXT PRIMARY KEY); CREATE TABLE role (name TEXT);
                     INSERT INTO user VALUES ('ana'), ('luis'); INSERT INTO role VALUES ('admin')";
const STOCK: &str = "PRAGMA journal_mode = wal; CREATE TABLE item (id INTEGER PRIMARY KEY, n INT);
                     INSERT INTO item VALUES (1, 10), (2, 20), (3, 30)";

/// A small company: two SQLite databases, maybe one of PostgreSQL, an `.env` and a folder.
struct Company {
    // Goes before the folder of a test.
    server: Option<Arc<Server>>,
    world: World,
    orders: &'static str,
}

impl Company {
    /// `None` where Python is not there.
    fn new() -> Option<Company> {
        if !has_tool("python3", "SQLite databases among others") {
            return None;
        }
        let world = World::new();
        sqlite(&world.path("users.db"), USERS, "SELECT 1");
        sqlite(&world.path("stock.db"), STOCK, "SELECT 1");
        fs::write(world.path(".env"), "PORT=8080\n").unwrap();
        data::small_tree(&world.path("config"), 5);
        Some(Company {
            server: None,
            world,
            orders: "",
        })
    }

    /// With a database of PostgreSQL too.
    fn with_orders(orders: &'static str) -> Option<Company> {
        let server = server("databases of PostgreSQL beside others")?;
        let mut company = Company::new()?;
        server.create(orders);
        server.sql(
            orders,
            "CREATE TABLE sale (id int PRIMARY KEY, what text); CREATE TABLE nothing (id int);
             INSERT INTO sale SELECT g, 'sale ' || g FROM generate_series(1, 1234) g",
        );
        (company.server, company.orders) = (Some(server), orders);
        Some(company)
    }

    fn sqlite(&self, name: &str) -> String {
        format!("sqlite://{}", self.world.typed(name))
    }

    /// Writes a file of sources.
    fn sources(&self, text: &str) {
        fs::write(self.world.path("sources.toml"), text).unwrap();
    }

    fn take(&self, arguments: &[&str]) -> Ran {
        self.world
            .call(["snapshot", "--json"])
            .args(arguments)
            .run()
    }

    /// A run failed: code 1, nothing was published, nothing is left.
    #[track_caller]
    fn assert_refused(&self, ran: Ran, words: &[&str]) {
        let before = self.world.snapshots();
        let ran = ran.expect(1);
        assert_eq!(ran.text(), "");
        for word in words {
            assert!(ran.stderr.contains(word), "no {word:?}: {}", ran.stderr);
        }
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        assert_eq!(before, self.world.snapshots());
        assert_nothing_left(&self.world);
    }

    fn all(&self) -> Vec<Value> {
        self.world.ok(["snapshots", "--all", "--json"]).json()
    }
}

fn text<'v>(object: &'v Value, field: &str) -> &'v str {
    object[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field} of {object}"))
}

/// What the manifest says of a member.
fn member<'v>(manifest: &'v Value, name: &str) -> &'v Value {
    let mut all = manifest["members"].as_array().unwrap().iter();
    all.find(|m| m["name"] == name)
        .unwrap_or_else(|| panic!("no {name}: {manifest}"))
}

#[test]
fn three_databases_a_file_and_a_folder_are_one_snapshot() {
    let Some(company) = Company::with_orders("orders") else {
        return;
    };
    let (world, server) = (&company.world, company.server.as_ref().unwrap());
    company.sources(&format!(
        "[[source]]\nurl = \"{}\"\nname = \"databases/people\"\ncheck = \"full\"\n\
         [[source]]\nurl = \"{}\"\nconnections = 2\n[[source]]\nurl = \"file:.env\"\n",
        company.sqlite("users.db"),
        server.address("orders")
    ));
    let stock = company.sqlite("stock.db");
    let taken = company
        .take(&[
            "--source-file",
            "sources.toml",
            "--source",
            &stock,
            "--source",
            "file:config",
        ])
        .expect(0)
        .object();
    assert_eq!(world.snapshots().len(), 1);
    assert_eq!(taken["incomplete"], false);
    assert_nothing_left(world);

    // One text for people and programs.
    let shown: Value = serde_json::from_slice(&world.ok(["manifest", "latest"]).stdout).unwrap();
    let manifest = world.object(["manifest", "latest"]);
    assert_eq!(manifest["members"], shown["members"]);
    assert_eq!(
        (&manifest["id"], &manifest["time"]),
        (&taken["id"], &taken["time"])
    );
    for (name, kind, tables, rows) in [
        ("databases/people", "sqlite", 2, 3),
        ("stock.db", "sqlite", 1, 3),
        ("orders", "postgres", 2, 1234),
    ] {
        let member = member(&manifest, name);
        assert_eq!(member["kind"], kind);
        assert_eq!(
            (&member["tables"], &member["rows"]),
            (&tables.into(), &rows.into()),
            "{name}"
        );
        assert_eq!(member["failed"], Value::Null);
        assert_streams(world, member);
    }
    let sale = stream(member(&manifest, "orders"), "orders/data/public.sale.copy");
    assert_eq!(sale["rows"], serde_json::json!({"public.sale": 1234}));
    assert_one_moment(world, &manifest);
    each_comes_back(&company);
}

/// Each member of the latest snapshot by itself.
fn each_comes_back(company: &Company) {
    let (world, server) = (&company.world, company.server.as_ref().unwrap());
    world.ok(["restore", "latest:.env", "back"]);
    world.ok(["restore", "latest:config", "back/config"]);
    assert_eq!(
        fs::read_to_string(world.path("back/.env")).unwrap(),
        "PORT=8080\n"
    );
    let to = company.sqlite("people.db");
    world.ok(["restore", "latest:databases/people", "--to", &to]);
    let users = sqlite(
        &world.path("people.db"),
        "",
        "SELECT group_concat(name) FROM user",
    );
    assert_eq!(users, "ana,luis");
    world.ok([
        "restore",
        "latest:orders",
        "--to",
        &server.address("orders_back"),
    ]);
    server.assert_equal("orders", "orders_back", &[]);
    let other = server.address("orders_people");
    world
        .run(["restore", "latest:databases/people", "--to", &other])
        .expect(2)
        .says("sqlite database");
    world
        .run(["restore", "latest", "--to", &other])
        .expect(1)
        .says("databases/people");
}

/// A stream of a member.
fn stream<'v>(member: &'v Value, path: &str) -> &'v Value {
    let mut all = member["stream_list"].as_array().unwrap().iter();
    all.find(|s| s["path"] == path)
        .unwrap_or_else(|| panic!("no {path}: {member}"))
}

/// Sizes and digests are those of what `cat` gives.
#[track_caller]
fn assert_streams(world: &World, member: &Value) {
    let streams = member["stream_list"].as_array().unwrap();
    let mut bytes = 0;
    for stream in streams {
        let path = text(stream, "path");
        let given = world.ok(["cat", &format!("latest:{path}")]).stdout;
        assert_eq!(stream["bytes"], given.len() as u64, "{path}");
        assert_eq!(
            text(stream, "blake3"),
            blake3::hash(&given).to_hex().as_str(),
            "{path}"
        );
        bytes += given.len() as u64;
    }
    assert_eq!(member["bytes"], bytes);
    assert_eq!(member["streams"], streams.len() as u64);
}

/// All that comes from databases bears the time of the snapshot.
#[track_caller]
fn assert_one_moment(world: &World, manifest: &Value) {
    let listed = world.ok(["ls", "--json", "--recursive", "latest"]).json();
    let mut seen = 0;
    for stream in manifest["members"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|m| m["stream_list"].as_array().unwrap())
    {
        let entry = listed.iter().find(|e| e["path"] == stream["path"]).unwrap();
        assert_eq!(entry["mtime"], manifest["time"], "{entry}");
        seen += 1;
    }
    assert!(seen >= 6, "{manifest}");
}

#[test]
fn when_one_source_fails_nothing_is_published() {
    let Some(company) = Company::with_orders("orders_failing") else {
        return;
    };
    let server = company.server.as_ref().unwrap();
    let (users, stock) = (company.sqlite("users.db"), company.sqlite("stock.db"));
    let orders = server.address("orders_failing");
    let all = [
        "--source", &users, "--source", &stock, "--source", &orders, "config",
    ];
    company.take(&all).expect(0);
    // One that is not there, one that cannot be reached, one that is damaged, one among files.
    fs::rename(
        company.world.path("stock.db"),
        company.world.path("elsewhere"),
    )
    .unwrap();
    company.assert_refused(company.take(&all), &["stock.db", "is not there"]);
    fs::rename(
        company.world.path("elsewhere"),
        company.world.path("stock.db"),
    )
    .unwrap();
    let nowhere = server.address("orders_nowhere");
    let ran = company.take(&["--source", &users, "--source", &nowhere]);
    company.assert_refused(ran, &["orders_nowhere: there is no database"]);
    let whole = fs::read(company.world.path("users.db")).unwrap();
    let mut damaged = whole.clone();
    damaged[4096..].fill(0x5a);
    fs::write(company.world.path("users.db"), damaged).unwrap();
    company.assert_refused(company.take(&all), &["users.db", "damaged"]);
    fs::write(company.world.path("users.db"), whole).unwrap();
    let ran = company.take(&["--source", &users, "no-such-folder"]);
    company.assert_refused(ran, &["no-such-folder"]);
    company.take(&all).expect(0);
    assert_eq!(company.all().len(), 2);
    company.world.assert_whole();
}

#[test]
fn a_partial_snapshot_is_asked_for_and_counts_for_nothing() {
    let Some(company) = Company::new() else {
        return;
    };
    let world = &company.world;
    let (users, stock) = (company.sqlite("users.db"), company.sqlite("stock.db"));
    let stock = format!("{stock}?on_error=partial");
    let all = ["--source", &users, "--source", &stock, "config"];
    let whole = company.take(&all).expect(0).object();
    fs::rename(world.path("stock.db"), world.path("elsewhere")).unwrap();
    let people = world.call(["snapshot"]).args(all).run().expect(3);
    assert!(
        people
            .says("stock.db is not there")
            .text()
            .contains("users.db")
    );
    for _ in 0..2 {
        let partial = company.take(&all).expect(3).object();
        assert_eq!(
            (&partial["partial"], &partial["incomplete"]),
            (&true.into(), &true.into())
        );
        let failed = text(member(&partial, "stock.db"), "failed");
        assert!(failed.contains("is not there"), "{partial}");
        assert_eq!(member(&partial, "users.db")["failed"], Value::Null);
        let id = text(&partial, "id");
        // What is in it can be had by its id.
        let to = company.sqlite("back.db");
        world.ok(["restore", &format!("{id}:users.db"), "--to", &to]);
        fs::remove_file(world.path("back.db")).unwrap();
        let restored = ["restore", &format!("{id}:stock.db"), "--to", &to];
        world
            .run(restored)
            .expect(1)
            .says("failed when this snapshot was taken");
        assert!(!world.path("back.db").exists());
        world.object(["manifest", id]);
    }
    // It is not the latest, not in the list, not what is kept.
    assert_eq!(world.object(["manifest", "latest"])["id"], whole["id"]);
    let listed = world.snapshots();
    assert!(
        listed.len() == 1 && listed[0]["id"] == whole["id"],
        "{listed:?}"
    );
    assert!(company.all().iter().any(|s| s["partial"] == true));
    world.ok(["forget", "--keep-last", "1"]);
    assert_eq!(world.snapshots(), listed, "the whole one is the last");
    // A whole one takes its place.
    fs::rename(world.path("elsewhere"), world.path("stock.db")).unwrap();
    let next = company.take(&all).expect(0).object();
    let left: Vec<Value> = company.all().iter().map(|s| s["id"].clone()).collect();
    assert!(
        left.len() == 2 && left.contains(&whole["id"]) && left.contains(&next["id"]),
        "{left:?}"
    );
    assert_eq!(world.object(["manifest", "latest"])["id"], next["id"]);
    world.assert_whole();
    world.ok(["restore", "latest:config", "back"]);
    assert_same(&world.path("config"), &world.path("back"));
}

#[test]
fn a_database_that_lost_all_its_rows_is_refused_unless_it_may_be_empty() {
    let Some(company) = Company::with_orders("orders_emptied") else {
        return;
    };
    let (world, server) = (&company.world, company.server.as_ref().unwrap());
    let stock = company.sqlite("stock.db");
    let orders = server.address("orders_emptied");
    let take = |stock: &str, orders: &str| company.take(&["--source", stock, "--source", orders]);
    take(&stock, &orders).expect(0);
    sqlite(&world.path("stock.db"), "DELETE FROM item", "SELECT 1");
    company.assert_refused(
        take(&stock, &orders),
        &["stock.db", "has no rows", "allow_empty"],
    );
    let may = format!("{stock}?allow_empty=true");
    take(&may, &orders).expect(0);
    server.sql("orders_emptied", "DELETE FROM sale");
    company.assert_refused(take(&may, &orders), &["orders_emptied", "has no rows"]);
    take(&may, &format!("{orders}&allow_empty=yes")).expect(0);
    // What was empty before may be so again.
    take(&stock, &orders).expect(0);
    assert_eq!(world.snapshots().len(), 4);
}

#[test]
fn a_command_beside_databases_counts_when_its_verify_command_agrees() {
    let Some(company) = Company::new() else {
        return;
    };
    let world = &company.world;
    let source = |command: &str, verify: &str| {
        company.sources(&format!(
            "[[source]]\nurl = \"{}\"\n[[source]]\nname = \"dump\"\n\
             command = [\"sh\", \"-c\", \"{command}\"]\nverify = [\"sh\", \"-c\", \"{verify}\"]\n",
            company.sqlite("users.db")
        ));
        company.take(&["--source-file", "sources.toml"])
    };
    let taken = source("seq 100000; echo end", "tail -n 1 | grep -q end")
        .expect(0)
        .object();
    assert_eq!(member(&taken, "dump")["kind"], "command");
    let manifest = world.object(["manifest", "latest"]);
    assert_streams(world, member(&manifest, "dump"));
    let refused = source(
        "seq 100000",
        "tail -n 1 | grep end || { echo no end >&2; exit 4; }",
    );
    company.assert_refused(
        refused,
        &["dump", "the verify command refused it", "no end"],
    );
    let failed = source(
        "seq 100000; echo end; echo disk lost >&2; exit 7",
        "cat > /dev/null",
    );
    company.assert_refused(failed, &["dump", "7", "disk lost"]);
    company.assert_refused(source("true", "cat > /dev/null"), &["dump", "is empty"]);
    assert_eq!(world.snapshots().len(), 1);
}

#[test]
fn what_is_asked_for_wrongly_is_misuse_and_tells_no_password() {
    const SECRET: &str = "hunter2";
    let world = World::new();
    let sqlite = format!("sqlite://{}", world.typed("a.db"));
    let refuse = |arguments: &[&str], says: &str| {
        for json in [&[][..], &["--json"]] {
            let call = world.call(["snapshot"]).args(arguments).args(json);
            let ran = call.env("PGPASSWORD", SECRET).run().expect(2).says(says);
            assert!(
                !ran.stderr.contains(SECRET) && !ran.text().contains(SECRET),
                "{}",
                ran.stderr
            );
        }
    };
    let source = |address: &str, says: &str| refuse(&["--source", address], says);
    source(&format!("{sqlite}?checks=full"), "checks");
    source(&format!("{sqlite}?check=thorough"), "quick, full, none");
    source(&format!("{sqlite}?on_error=ignore"), "fail, partial");
    source("postgres://ana@db/shop?passwort=hunter2", "passwort");
    source("postgres://ana:hunter2@db/shop", "holds a password");
    source("postgres://ana:hunter2@/shop?host=/run", "holds a password");
    source("postgres://:hunter2@db/shop", "holds a password");
    source("postgres://ana@db/shop?password=hunter2", "password_file");
    source("postgres://ana@db", "name of a database");
    source("oracle://ana@db/shop", "oracle");
    source("shop.db", "address");
    source("sqlite://host/a.db", "third slash");
    source("file:", "file:");
    refuse(&["--source", &sqlite, "--source", &sqlite], "name=");
    let write = |text: &str| fs::write(world.path("sources.toml"), text).unwrap();
    for (written, says) in [
        (
            "url = \"postgres://ana:hunter2@db/shop\"",
            "holds a password",
        ),
        (
            "url = \"postgres://ana@db/shop\"\npassword = \"hunter2\"",
            "password_file",
        ),
        (
            "url = \"postgres://ana@db/shop\"\npasswort = \"hunter2\"",
            "passwort",
        ),
        (
            "url = \"postgres://ana@db/shop\"\npassword_file = [\"hunter2\"]",
            "password_file",
        ),
        (
            "url = \"postgres://ana@db/shop\"\npassword = hunter2",
            "TOML",
        ),
        ("name = \"nothing\"", "either url or command"),
    ] {
        write(&format!("[[source]]\n{written}\n"));
        refuse(&["--source-file", "sources.toml"], says);
        refuse(&["--source-file", "sources.toml"], "sources.toml");
    }
    assert!(world.snapshots().is_empty() && !world.path("a.db").exists());
    assert_nothing_left(&world);
}
