-- Memory work for sqlite3: rows with text in memory, indexes, joins, groups, deletions.
PRAGMA temp_store = MEMORY;
CREATE TABLE event (id INTEGER PRIMARY KEY, account INTEGER, kind TEXT, note TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120000)
INSERT INTO event
SELECT i, (i * 7919) % 5003, substr('buysellholdmove', 1 + (i % 4) * 4, 4), printf('%08x', (i * 40503) % 4294967296)
FROM n;
CREATE INDEX by_account ON event (account);
CREATE TABLE account AS
SELECT account AS id, count(*) AS events, group_concat(kind, '') AS kinds FROM event GROUP BY account;
SELECT kind, count(*), max(note) FROM event GROUP BY kind ORDER BY kind;
SELECT count(*), sum(length(e.note || a.kinds)) FROM event AS e JOIN account AS a ON a.id = e.account;
DELETE FROM event WHERE id % 3 = 0;
SELECT count(DISTINCT substr(note, 1, 5)) FROM event;
