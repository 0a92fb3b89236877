-- Everything that a schema may hold, for tests.
CREATE SCHEMA audit;
CREATE SCHEMA "Odd.Schema";
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE TYPE state AS ENUM ('open', 'paid', 'gone');
CREATE DOMAIN money_amount AS numeric(12, 2) CHECK (VALUE >= 0);
CREATE TABLE customer (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL, born date, note jsonb,
    shown text GENERATED ALWAYS AS (upper(name)) STORED);
CREATE TABLE sale (
    id bigserial PRIMARY KEY, customer integer NOT NULL REFERENCES customer,
    amount money_amount NOT NULL, state state NOT NULL DEFAULT 'open',
    at timestamptz NOT NULL DEFAULT '2026-01-01 12:00:00+02', photo bytea, ratio float8);
CREATE TABLE part (id int, region text, at date, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
CREATE TABLE part_north PARTITION OF part FOR VALUES IN ('north');
CREATE TABLE part_rest PARTITION OF part DEFAULT;
CREATE TABLE bare (x int, y text);
CREATE TABLE nothing ();
CREATE TABLE "Odd.Schema"."t""b/l e" ("sel ect" int PRIMARY KEY, "ñ" text);
CREATE TABLE audit.log (at timestamptz, what text);
CREATE TABLE empty (id int PRIMARY KEY);
CREATE UNLOGGED TABLE quick (id int PRIMARY KEY);
CREATE SEQUENCE numbers START 5 INCREMENT 3;
SELECT nextval('numbers'), nextval('numbers');
CREATE INDEX sale_by_state ON sale (state) WHERE state <> 'gone';
CREATE INDEX customer_like ON customer USING gin (name gin_trgm_ops);
CREATE VIEW dear AS SELECT * FROM sale WHERE amount > 50;
CREATE MATERIALIZED VIEW totals AS SELECT state, count(*) AS n, sum(amount) AS total FROM sale GROUP BY state;
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $_$
BEGIN
-- Name: x; Type: TRIGGER; Schema: a; Owner: -
    INSERT INTO audit.log VALUES (now(), 'sale ' || NEW.id); RETURN NEW; END $_$;
INSERT INTO customer (name, born, note)
    SELECT 'name ' || g, '2000-01-01'::date + g, jsonb_build_object('n', g, 'é', E'tab\t') FROM generate_series(1, 500) g;
INSERT INTO sale (customer, amount, state, photo, ratio)
    SELECT 1 + g % 500, g % 97, (ARRAY['open', 'paid', 'gone']::state[])[1 + g % 3],
           decode(md5(g::text), 'hex'), CASE g % 5 WHEN 0 THEN 'NaN' WHEN 1 THEN '-Infinity' ELSE g / 3.0::float8 END
    FROM generate_series(1, 5000) g;
UPDATE sale SET amount = amount + 1 WHERE id % 7 = 0;
INSERT INTO part SELECT g, CASE WHEN g % 2 = 0 THEN 'north' ELSE 'south' END, '2026-01-01' FROM generate_series(1, 300) g;
INSERT INTO bare VALUES (1, E'line\nend\\'), (NULL, NULL), (1, ''), (2, E'\\N');
INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES;
INSERT INTO "Odd.Schema"."t""b/l e" VALUES (2, 'zwei'), (1, 'añb');
INSERT INTO quick VALUES (1);
CREATE TRIGGER noted AFTER INSERT ON sale FOR EACH ROW EXECUTE FUNCTION noted();
CREATE TRIGGER quoted AFTER INSERT ON part_north FOR EACH ROW EXECUTE FUNCTION noted('$$');
CREATE POLICY mine ON audit.log USING (what <> 'x''s'); ALTER TABLE audit.log ENABLE ROW LEVEL SECURITY;
ALTER TABLE ONLY bare REPLICA IDENTITY FULL;
CREATE ROLE shop_reader; CREATE ROLE "Odd Role";
GRANT SELECT ON customer, sale TO shop_reader; GRANT USAGE ON SCHEMA audit TO "Odd Role";
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO shop_reader;
ALTER TABLE audit.log OWNER TO "Odd Role";
COMMENT ON TABLE sale IS 'it''s "sales"'; COMMENT ON COLUMN customer.name IS E'two\nlines';
REFRESH MATERIALIZED VIEW totals;
SELECT lo_from_bytea(424242, decode(repeat('00ff10', 3000), 'hex'));
SELECT lo_from_bytea(424243, ''); COMMENT ON LARGE OBJECT 424242 IS 'picture';
