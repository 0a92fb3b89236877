//! What owners of databases, other sessions and signals may do to a restore.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// Names of all databases, and whether each may be connected to.
fn databases(world: &World) -> BTreeMap<String, bool> {
    let sql = "SELECT datname, datallowconn FROM pg_database WHERE NOT datistemplate";
    let rows = world.session("postgres").rows(sql).unwrap();
    let pair = |row: Vec<Option<String>>| {
        let [name, allowed] = row.try_into().unwrap();
        (name.unwrap(), allowed.as_deref() == Some("t"))
    };
    rows.into_iter().map(pair).collect()
}

#[test]
fn a_setting_of_an_owner_is_a_setting_and_no_command() {
    let world = World::new("evil");
    world
        .session("postgres")
        .run("CREATE DATABASE precious")
        .unwrap();
    let pwned = world.folder.join("pwned");
    for value in [
        format!("a;\\! ,;id>{};true", pwned.display()),
        "a;drop/**/database/**/precious;".to_owned(),
        "\"$user\", public, \"it's, one\"".to_owned(),
    ] {
        let value = crate::postgres::names::literal(&value);
        let session = world.session("evil");
        session
            .run(&format!(
                "SELECT set_config('search_path', {value}, false); \
                 ALTER DATABASE evil SET search_path FROM CURRENT; \
                 COMMENT ON DATABASE evil IS 'a;\n:\"DBNAME\"'; \
                 ALTER DATABASE evil CONNECTION LIMIT 7"
            ))
            .unwrap();
        drop(session);
        let taken = world.take("");
        let target = world.database("evil_back", "");
        target
            .restore(&taken, &RestoreOptions::default(), &world.context)
            .unwrap();
        let settings = |name: &str| {
            let lines = world.dump(name, &["--create", "--schema-only"]);
            let named = lines.into_iter().filter(|line| line.contains(name));
            named
                .map(|line| line.replace(name, "it"))
                .collect::<Vec<_>>()
        };
        equal(&settings("evil"), &settings("evil_back"));
        assert!(databases(&world).contains_key("precious"));
        assert!(!pwned.exists());
        target.remove("evil_back", &world.context).unwrap();
    }
}

#[test]
fn a_name_comes_last_and_what_a_killed_restore_left_goes() {
    let world = World::shop("named");
    let (left, used) = ("named_restoring_0123abcd", "named_restoring_4567cdef");
    let session = world.session("postgres");
    // Before its database is there: restores of other tests look for what is left, too.
    let at_work = world.session("postgres");
    at_work
        .run("SET application_name = 'hucha restoring 4567cdef'")
        .unwrap();
    session.run(&format!("CREATE DATABASE {left}")).unwrap();
    session.run(&format!("CREATE DATABASE {used}")).unwrap();
    // One that is stopped at its first row, by a stream that can be read no further.
    let taken = world.take("");
    let target = world.database("named_back", "");
    let seen = Mutex::new(BTreeMap::new());
    let watched = Watched {
        taken: &taken,
        at: &|name| {
            if name == "data/public.sale.copy" {
                *seen.lock().unwrap() = databases(&world);
            }
        },
    };
    let restored = target.restore(&watched, &RestoreOptions::default(), &world.context);
    assert_eq!(restored.unwrap().name, "named_back");
    let seen = seen.into_inner().unwrap();
    assert!(
        !seen.contains_key("named_back") && !seen.contains_key(left),
        "{seen:?}"
    );
    let restoring = |name: &&String| name.starts_with("named_back_restoring_");
    assert_eq!(seen.keys().filter(restoring).count(), 1, "{seen:?}");
    let now = databases(&world);
    assert!(now["named_back"] && now.contains_key(used), "{now:?}");
    assert_eq!(now.keys().filter(restoring).count(), 0, "{now:?}");
    // What is stopped takes away what it made.
    let context = Context {
        stopper: Default::default(),
        ..world.context.clone()
    };
    let watched = Watched {
        taken: &taken,
        at: &|name| {
            if name == "data/public.sale.copy" {
                context.stopper.stop();
            }
        },
    };
    let target = world.database("named_not", "");
    let error = target
        .restore(&watched, &RestoreOptions::default(), &context)
        .unwrap_err();
    assert_eq!(error.cause, Cause::Stopped, "{error}");
    let left: Vec<String> = databases(&world)
        .into_keys()
        .filter(|name| name.starts_with("named_not"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A member that somebody watches being read.
struct Watched<'a> {
    taken: &'a Taken,
    at: &'a (dyn Fn(&str) + Sync),
}

impl Stored for Watched<'_> {
    fn member(&self) -> &Member {
        self.taken.member()
    }

    fn streams(&self) -> &[StoredStream] {
        self.taken.streams()
    }

    fn read(&self, name: &str, read: ReadStream<'_>) -> Result<(), DatabaseError> {
        (self.at)(name);
        self.taken.read(name, read)
    }
}

#[test]
fn an_exchange_wins_against_those_who_come_back() {
    let world = World::shop("wanted");
    let taken = world.take("");
    let target = world.database("wanted", "");
    let restored = target
        .restore(&taken, &RestoreOptions::default(), &world.context)
        .unwrap();
    let is_over = AtomicBool::new(false);
    let came = std::thread::scope(|scope| {
        let coming = scope.spawn(|| {
            let mut came = 0;
            while !is_over.load(Ordering::Relaxed) {
                let login = target.place.login(&world.context).unwrap();
                came += usize::from(Session::open(&login, &world.context).is_ok());
            }
            came
        });
        let swapped = target.swap(restored, &world.context);
        is_over.store(true, Ordering::Relaxed);
        swapped.unwrap();
        coming.join().unwrap()
    });
    assert!(came > 0);
}

#[test]
fn an_exchange_that_is_stopped_leaves_all_open() {
    let world = World::shop("stuck");
    let taken = world.take("");
    let target = world.database("stuck", "");
    // A session that cannot be ended: its process stands still.
    let restored = target
        .restore(&taken, &RestoreOptions::default(), &world.context)
        .unwrap();
    let stuck = world.session("stuck");
    let pid = stuck.number("SELECT pg_backend_pid()").unwrap();
    let signal = |signal: &str| {
        let mut kill = Command::new("kill");
        assert!(
            kill.args([signal, &pid.to_string()])
                .status()
                .unwrap()
                .success()
        );
    };
    signal("-STOP");
    let context = Context {
        stopper: Default::default(),
        ..world.context.clone()
    };
    let name = restored.name.clone();
    let renames = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%RENAME TO%' \
                   AND state = 'active' AND pid <> pg_backend_pid()";
    let swapped = std::thread::scope(|scope| {
        let swapping = scope.spawn(|| target.swap(restored, &context));
        while world.number("postgres", renames) == 0 {
            assert!(!swapping.is_finished());
        }
        context.stopper.stop();
        swapping.join().unwrap()
    });
    assert_eq!(swapped.unwrap_err().cause, Cause::Stopped);
    signal("-CONT");
    drop(stuck);
    // The server may end what it had begun: all of it or nothing.
    while world.number("postgres", renames) > 0 {}
    let all = databases(&world);
    let of_it: Vec<_> = all
        .iter()
        .filter(|(name, _)| name.starts_with("stuck"))
        .collect();
    assert!(
        of_it.len() == 2 && of_it.iter().all(|(_, open)| **open),
        "{name}: {all:?}"
    );
    world.session("stuck").run("SELECT 1").unwrap();
}

#[test]
fn owner_collation_and_large_objects_are_as_they_were() {
    let world = World::shop("owned");
    world
        .session("postgres")
        .run(
            "CREATE ROLE owner_of_it; ALTER DATABASE owned OWNER TO owner_of_it;
             GRANT CREATE ON DATABASE owned TO owner_of_it",
        )
        .unwrap();
    let taken = world.take("");
    let target = world.database("owned_back", "");
    let one = options(Part::All, &["bare"]);
    let made = target.restore(&taken, &one, &world.context).unwrap();
    assert!(
        made.warnings.iter().all(|w| !w.contains("owner")),
        "{made:?}"
    );
    let same = |sql: &str| {
        let value = |name: &str| world.session(name).value(sql).unwrap();
        assert_eq!(value("owned"), value("owned_back"), "{sql}");
    };
    same("SELECT datdba::regrole::text FROM pg_database WHERE datname = current_database()");
    same("SELECT datlocprovider FROM pg_database WHERE datname = current_database()");
    same("SELECT md5(lo_get(424242))");
    // An owner that is nowhere is said, and takes nothing away.
    let mut elsewhere = taken.clone();
    for (name, value) in &mut elsewhere.member.properties {
        if name == "owner" {
            *value = "nobody_here".to_owned();
        }
    }
    let target = world.database("owned_not", "");
    let made = target.restore(&elsewhere, &one, &world.context).unwrap();
    assert!(
        made.warnings.iter().any(|w| w.contains("nobody_here")),
        "{made:?}"
    );
}

#[test]
fn values_are_the_same_whatever_a_role_is_set_to() {
    let world = World::new("odd_role");
    world
        .session("odd_role")
        .run(
            "CREATE TABLE public.a (id int PRIMARY KEY, list text[], doc xml);
             INSERT INTO public.a VALUES (1, '{x,NULL,\"NULL\"}', XMLPARSE(CONTENT 'a<b/>'));
             ALTER DATABASE odd_role SET array_nulls = off;
             ALTER DATABASE odd_role SET xmloption = document",
        )
        .unwrap();
    let taken = world.take("");
    let target = world.database("odd_role_back", "");
    target
        .restore(&taken, &RestoreOptions::default(), &world.context)
        .unwrap();
    equal(
        &world.dump("odd_role", &["--data-only"]),
        &world.dump("odd_role_back", &["--data-only"]),
    );
}
