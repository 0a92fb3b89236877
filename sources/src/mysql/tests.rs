//! Against a real MariaDB server, which the tests start themselves: it has to be installed.

mod exact;
mod failing;
mod parts;
mod seen;
mod swapped;
mod whole;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};

use super::Mysql;
use super::throwaway::Throwaway;
use crate::child::lock;
use crate::database::testing::{Taken, context, take};
use crate::database::{Context, Database, Settings};

/// The server, as long as a test uses it.
static SERVER: Mutex<Weak<Throwaway>> = Mutex::new(Weak::new());

struct World {
    _keep: tempfile::TempDir,
    folder: PathBuf,
    context: Context,
    server: Arc<Throwaway>,
}

fn world() -> World {
    let keep = tempfile::tempdir().unwrap();
    let folder = keep.path().to_owned();
    let context = context(&folder);
    let mut shared = lock(&SERVER);
    let server = shared.upgrade().unwrap_or_else(|| {
        let server = Arc::new(Throwaway::start(&context).unwrap());
        *shared = Arc::downgrade(&server);
        server
    });
    World {
        _keep: keep,
        folder,
        context,
        server,
    }
}

impl World {
    fn at(&self, database: &str) -> Mysql {
        self.with(database, "")
    }

    /// With options: `&part=schema`.
    fn with(&self, database: &str, options: &str) -> Mysql {
        let address = self.server.address(database);
        Mysql::new(Settings::of_address(&format!("{address}{options}")).unwrap()).unwrap()
    }

    /// As another user.
    fn user(&self, user: &str, database: &str, options: &str) -> Mysql {
        let address = self.server.address(database);
        let address = address.replace("//root@", &format!("//{user}@"));
        Mysql::new(Settings::of_address(&format!("{address}{options}")).unwrap()).unwrap()
    }

    /// Runs SQL in no database.
    fn run(&self, sql: &str) -> Vec<Vec<String>> {
        let access = self.at("mysql").access(&self.context).unwrap();
        access.ask(None, sql).unwrap()
    }

    fn one(&self, sql: &str) -> String {
        self.run(sql)[0][0].clone()
    }

    fn take(&self, from: &Mysql) -> Taken {
        take(from, &self.context).unwrap()
    }

    fn databases(&self, like: &str) -> Vec<String> {
        let rows = self.run(&format!("SHOW DATABASES LIKE '{like}'"));
        rows.into_iter().map(|row| row[0].clone()).collect()
    }

    /// No temporary file is left.
    fn is_clean(&self) -> bool {
        std::fs::read_dir(self.folder.join("scratch")).map_or(0, Iterator::count) == 0
    }

    /// A shop with all that a restore must keep.
    fn shop(&self, name: &str) {
        self.run(&SHOP.replace("@shop@", name));
    }
}

const SHOP: &str = r#"
CREATE DATABASE `@shop@` CHARACTER SET utf8mb4 COLLATE utf8mb4_spanish_ci;
USE `@shop@`;
CREATE TABLE customer (
  id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(50) NOT NULL,
  kind ENUM('a','b;''c'), tags SET('x','y'), doc JSON, pic BLOB, flags BIT(5),
  at TIMESTAMP(3) NOT NULL DEFAULT '2026-01-01 10:00:00.125',
  up VARCHAR(60) AS (UPPER(name)) STORED, lo VARCHAR(60) AS (LOWER(name)) VIRTUAL,
  UNIQUE KEY (name)) COMMENT='it''s; -- a `table`';
CREATE TABLE orders (
  id INT AUTO_INCREMENT PRIMARY KEY, customer INT, total DECIMAL(10,2), rate DOUBLE,
  FOREIGN KEY (customer) REFERENCES customer (id) ON DELETE CASCADE);
CREATE TABLE part (id INT, y INT, PRIMARY KEY (id, y)) PARTITION BY RANGE (y)
  (PARTITION p0 VALUES LESS THAN (2000), PARTITION p1 VALUES LESS THAN MAXVALUE);
CREATE TABLE nothing (id INT PRIMARY KEY);
CREATE TABLE old (id INT, t TEXT) ENGINE=MyISAM;
CREATE TABLE `odd ``name; --` (a INT, `b ``c` TEXT);
CREATE TABLE log (what TEXT CHARACTER SET latin1);
CREATE SEQUENCE numbers START 5;
INSERT INTO customer (name, kind, tags, doc, pic, flags) VALUES
  ('Ñandú ''x'' \\ ; \n -- 🐦', 'b;''c', 'x,y', '{"a": [1, "(),("]}', x'00ff275c0a', b'10101'),
  ('b', 'a', '', NULL, NULL, NULL), ('c', NULL, NULL, '[]', '', b'0');
DELETE FROM customer WHERE name = 'c';
INSERT INTO orders (customer, total, rate) VALUES (1, 9.5, 1e100), (2, 3, -0.1), (1, 7, NULL);
INSERT INTO part VALUES (1, 1999), (2, 2010);
INSERT INTO log VALUES ('o;'), ('é'), (NULL);
INSERT INTO old VALUES (1, 'x'), (1, 'x');
INSERT INTO `odd ``name; --` VALUES (1, 'INSERT INTO `x` VALUES (1),(2);\n-- Dump completed\n');
CREATE VIEW v2 AS SELECT c.name, o.total FROM customer c JOIN orders o ON o.customer = c.id;
CREATE VIEW v1 AS SELECT * FROM v2 WHERE total > 5;
DELIMITER ;;
CREATE TRIGGER noted AFTER INSERT ON orders FOR EACH ROW BEGIN
  -- Table structure for table `customer`
  INSERT INTO log VALUES ('o;');
END;;
CREATE PROCEDURE twice(IN a INT) BEGIN SELECT a; SELECT ';'; END;;
SET sql_mode = 'NO_BACKSLASH_ESCAPES';;
CREATE FUNCTION slash() RETURNS VARCHAR(5) DETERMINISTIC BEGIN RETURN '\'; END;;
SET sql_mode = DEFAULT;;
CREATE EVENT daily ON SCHEDULE EVERY 1 DAY STARTS '2026-01-01 00:00:00'
  DO BEGIN INSERT INTO log VALUES ('e'); END;;
CREATE EVENT never ON SCHEDULE EVERY 2 DAY STARTS '2026-01-01 00:00:00' DISABLE DO SELECT 1;;
DELIMITER ;
"#;

/// A dump without what its name and server say, to be compared.
fn plain(taken: &Taken) -> Vec<String> {
    let text = taken.text("");
    let lines = text.lines().filter(|line| !line.starts_with("-- "));
    lines.map(str::to_owned).collect()
}

#[test]
fn addresses_and_options() {
    let new = |address: &str| Mysql::new(Settings::of_address(address).unwrap());
    let mysql = new("mariadb://ana@db:3307/shop?tables=a,b*&exclude_tables=b2").unwrap();
    assert_eq!(mysql.location(), "mariadb://ana@db:3307/shop");
    assert_eq!(
        (mysql.kind(), mysql.default_name().as_str()),
        ("mysql", "shop.sql")
    );
    let wanted = ["a", "ab", "b1", "b2", "c"].map(|table| mysql.wants(table));
    assert_eq!(wanted, [true, false, true, false, false]);
    for bad in [
        "mysql://db",
        "mysql://db/a/b",
        "mysql://db/a?part=x",
        "mysql://db/a?defaults_file=x.cnf",
        "mysql://db/a?tabels=x",
        "mysql://db/a?ssl_mode=maybe",
    ] {
        assert!(new(bad).is_err(), "{bad}");
    }
    for (pattern, name, wanted) in [
        ("*", "", true),
        ("a*c*", "abcd", true),
        ("a*c", "abcd", false),
        ("*a", "ba", true),
        ("ab*b", "ab", false),
    ] {
        assert_eq!(super::is_like(pattern, name), wanted, "{pattern} {name}");
    }
    assert_eq!(super::beside(&"é".repeat(64), "_x").chars().count(), 64);
}
