-- Memory work for sqlite3: one million rows in memory, with indexes, joins, aggregates and deletions.
PRAGMA temp_store = MEMORY;
CREATE TABLE event (id INTEGER PRIMARY KEY, account INTEGER, kind TEXT, amount INTEGER, note TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)
INSERT INTO event
SELECT i, (i * 7919) % 5003, substr('buysellholdmove', 1 + (i % 4) * 4, 4), (i * 2654435761) % 10007,
       CASE i % 5 WHEN 0 THEN NULL ELSE printf('%08x', (i * 40503) % 4294967296) END
FROM n;
CREATE INDEX by_account ON event (account, amount);
CREATE INDEX by_note ON event (note) WHERE note IS NOT NULL;

SELECT count(*), sum(amount), min(note), max(note), count(DISTINCT account) FROM event;
SELECT kind, count(*), sum(amount), avg(amount) FROM event GROUP BY kind ORDER BY kind;
SELECT account, sum(amount) AS total FROM event GROUP BY account ORDER BY total DESC, account LIMIT 10;

DELETE FROM event WHERE id % 3 = 0;
UPDATE event SET note = note || note || note WHERE account < 500;
CREATE TABLE account AS SELECT account AS id, count(*) AS events, group_concat(kind, '') AS kinds FROM event GROUP BY account;
SELECT count(*), sum(events), sum(length(kinds)) FROM account;
SELECT a.id, a.events, max(e.amount), substr(max(e.note), 1, 24)
FROM account AS a JOIN event AS e ON e.account = a.id WHERE a.id % 500 = 1 GROUP BY a.id ORDER BY a.id;
SELECT count(*), sum(length(note)) FROM event;
PRAGMA integrity_check;
