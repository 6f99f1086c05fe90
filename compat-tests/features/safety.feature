@pg
Feature: what breaks under PostgreSQL
  Whatever fails, nothing is lost that was there, and the member heals when the cause is gone.

  Scenario: the disk of a replica is full
    Given a running cluster of 1 member
    When node1 is made with
      """
      postgresql: {data_dir: LABNODE/disk/data}
      """
    And node1's disk has 200 MB
    And node1 starts
    Then node1 follows node0 within 40 s
    When `dd if=/dev/zero of=LABNODE/disk/ballast bs=1M count=1000 2>/dev/null; true` is run in node1's directory
    And SQL "CREATE TABLE big AS SELECT repeat(md5(i::text), 8) FROM generate_series(1, 150000) i" is run on node0
    And a row "after" is written on node0
    Then node0 leads within 10 s
    And SQL "SELECT count(*) FROM pg_stat_replication" gives "0" on node0 within 30 s
    When `rm LABNODE/disk/ballast` is run in node1's directory
    Then node1 follows node0 within 60 s
    And the row "after" is on every member within 20 s

  Scenario: the disk of the primary is full
    When node0 is made with
      """
      postgresql: {data_dir: LABNODE/disk/data}
      """
    And node0's disk has 200 MB
    And node0 starts
    Then node0 leads within 60 s
    When node1 is added with
      """
      tags: {}
      """
    Then node1 follows node0 within 40 s
    # What a switch of WAL skips counts as lag.
    When node0 is configured by PATCH with
      """
      {"maximum_lag_on_failover": 100000000}
      """
    And a row "before" is written on node0
    Then the row "before" is on every member within 10 s
    When `dd if=/dev/zero of=LABNODE/disk/ballast bs=1M count=1000 2>/dev/null; true` is run in node0's directory
    And SQL "DO $$ BEGIN FOR i IN 1..20 LOOP PERFORM pg_logical_emit_message(false, 'x', 'y'); PERFORM pg_switch_wal(); END LOOP; END $$" fails on node0
    Then node1 leads within 60 s
    And `test -s LABDATA/global/pg_control` succeeds in node0's directory
    When a row "after" is written on node1
    And `rm LABNODE/disk/ballast` is run in node0's directory
    Then node0 follows node1 within 60 s
    And the row "before" is on every member within 10 s
    And the row "after" is on every member within 20 s

  # From 18 on a standby starts on the full disk, wins the lock while nobody else can, and dies of its promotion.
  # (The reference starts it again and again.)
  @ours
  Scenario: a primary on a full disk that took the lock alone gives it away
    Given PostgreSQL 18 or newer
    When node0 is made with
      """
      postgresql: {data_dir: LABNODE/disk/data}
      """
    And node0's disk has 200 MB
    And node0 starts
    Then node0 leads within 60 s
    When node1 is added with
      """
      tags: {}
      """
    Then node1 follows node0 within 40 s
    # What a switch of WAL skips counts as lag.
    When node0 is configured by PATCH with
      """
      {"maximum_lag_on_failover": 100000000}
      """
    And a row "before" is written on node0
    Then the row "before" is on every member within 10 s
    When the daemon of node1 is frozen
    And `dd if=/dev/zero of=LABNODE/disk/ballast bs=1M count=1000 2>/dev/null; true` is run in node0's directory
    And SQL "DO $$ BEGIN FOR i IN 1..20 LOOP PERFORM pg_logical_emit_message(false, 'x', 'y'); PERFORM pg_switch_wal(); END LOOP; END $$" fails on node0
    Then node0's log says "starting as readonly because i had the session lock" within 60 s
    When the daemon of node1 is thawed
    Then node1 leads within 60 s
    When a row "after" is written on node1
    And `rm LABNODE/disk/ballast` is run in node0's directory
    Then node0 follows node1 within 60 s
    And the row "after" is on every member within 20 s

  @ours
  Scenario: both disks are full, and room is made on that of the replica
    When node0 is made with
      """
      postgresql: {data_dir: LABNODE/disk/data}
      """
    And node0's disk has 200 MB
    And node0 starts
    Then node0 leads within 60 s
    When node1 is made with
      """
      postgresql: {data_dir: LABNODE/disk/data}
      """
    And node1's disk has 200 MB
    And node1 starts
    Then node1 follows node0 within 60 s
    When node0 is configured by PATCH with
      """
      {"maximum_lag_on_failover": 100000000}
      """
    And a row "before" is written on node0
    Then the row "before" is on every member within 10 s
    When `dd if=/dev/zero of=LABNODE/disk/ballast bs=1M count=1000 2>/dev/null; true` is run in node1's directory
    And `dd if=/dev/zero of=LABNODE/disk/ballast bs=1M count=1000 2>/dev/null; true` is run in node0's directory
    And SQL "DO $$ BEGIN FOR i IN 1..20 LOOP PERFORM pg_logical_emit_message(false, 'x', 'y'); PERFORM pg_switch_wal(); END LOOP; END $$" fails on node0
    Then node0's log says "PostgreSQL can not write its WAL: " within 60 s
    When `rm LABNODE/disk/ballast` is run in node1's directory
    Then node1 leads within 120 s
    When a row "after" is written on node1
    And `rm LABNODE/disk/ballast` is run in node0's directory
    Then node0 follows node1 within 60 s
    And the row "before" is on every member within 10 s
    And the row "after" is on every member within 20 s

  Scenario: a data directory that cannot be written
    Given a running cluster of 2 members
    When a row "kept" is written on node0
    Then the row "kept" is on every member within 10 s
    When the whole node of node1 is killed
    And `chmod 500 LABDATA LABDATA/global` is run in node1's directory
    And node1 is started
    Then GET "/patroni" of node1 has "state" = "start failed" within 40 s
    And node0 leads within 5 s
    And `test -s LABDATA/global/pg_control` succeeds in node1's directory
    When `chmod 700 LABDATA LABDATA/global` is run in node1's directory
    Then node1 follows node0 within 60 s

  Scenario: the server's program is missing
    Given a running cluster of 2 members
    When node2 is made with
      """
      postgresql: {bin_dir: LABNODE/bin}
      """
    And node2 starts
    Then node2 follows node0 within 40 s
    When `mv LABNODE/bin/postgres LABNODE/bin/postgres.away` is run in node2's directory
    And the postmaster of node2 is killed
    Then GET "/patroni" of node2 has "state" = "start failed" within 40 s
    And `test -s LABDATA/global/pg_control` succeeds in node2's directory
    When `mv LABNODE/bin/postgres.away LABNODE/bin/postgres` is run in node2's directory
    Then node2 follows node0 within 60 s

  Scenario: the postmaster dies while it starts
    Given a running cluster of 2 members
    When node2 is made with
      """
      postgresql: {bin_dir: LABNODE/bin}
      """
    And node2 starts
    Then node2 follows node0 within 40 s
    When `mv LABNODE/bin/postgres LABNODE/bin/postgres.away; printf '#!/bin/sh\ncase "$*" in *config-file*--listen*) sleep 1; exit 1;; esac\nexec LABNODE/bin/postgres.away "$@"\n' >LABNODE/bin/postgres; chmod 755 LABNODE/bin/postgres` is run in node2's directory
    And the postmaster of node2 is killed
    Then GET "/patroni" of node2 has "state" = "start failed" within 40 s
    And `test -s LABDATA/global/pg_control` succeeds in node2's directory
    When `rm LABNODE/bin/postgres; mv LABNODE/bin/postgres.away LABNODE/bin/postgres` is run in node2's directory
    Then node2 follows node0 within 60 s

  Scenario: pg_basebackup is missing
    Given a running cluster of 1 member
    When node1 is made with
      """
      postgresql: {bin_dir: LABNODE/bin}
      """
    And `mkdir LABNODE/bin && ln -s LABBIN/* LABNODE/bin && rm LABNODE/bin/pg_basebackup` is run in node1's directory
    And node1 starts
    Then node1's log says "failed to bootstrap from leader 'node0'" within 40 s
    When `ln -s LABBIN/pg_basebackup LABNODE/bin/pg_basebackup` is run in node1's directory
    Then node1 follows node0 within 60 s

  @ci
  Scenario: a stale postmaster.pid whose pid somebody else has by now
    Given a running cluster of 2 members
    When the whole node of node1 is killed
    And `sleep 600 >/dev/null 2>&1 & sed -i "1s/.*/$!/;3s/.*/1700000000/" LABDATA/postmaster.pid` is run in node1's directory
    And node1 is started
    Then node1 follows node0 within 60 s
    And a process "sleep 600" of node1 is killed within 1 s

  Scenario: the data directory is a symbolic link to itself
    Given a running cluster of 1 member
    When node1 is made with
      """
      postgresql: {data_dir: LABNODE/disk/data}
      """
    And `mkdir LABNODE/disk; ln -s data LABNODE/disk/data` is run in node1's directory
    And node1 starts
    Then node1 answers 200 to "/liveness" within 20 s
    And node0 leads within 5 s
    When `test ! -L LABDATA || rm LABDATA` is run in node1's directory
    Then node1 follows node0 within 60 s

  Scenario: PostgreSQL of a replica hangs for a while
    Given a running cluster of 2 members
    When PostgreSQL of node1 is frozen
    And a row "while" is written on node0
    Then PostgreSQL of node0 takes writes for 10 s
    When PostgreSQL of node1 is thawed
    Then node1 follows node0 within 60 s
    And the row "while" is on every member within 20 s

  # Before 14 nothing of a replica's cycle needs the server's answer (in the reference, too): "no action".
  @ours @from14
  Scenario: PostgreSQL of a replica hangs, its daemon does not
    Given a running cluster of 2 members
    When PostgreSQL of node1 is frozen
    Then node1's log says "Error communicating with PostgreSQL" within 60 s
    And node1 answers 200 to "/liveness" within 5 s
    When PostgreSQL of node1 is thawed
    Then node1 follows node0 within 60 s

  @ours
  Scenario: a new copy is refused while its source is away
    Given a running cluster of 2 members
    When a row "kept" is written on node0
    Then the row "kept" is on every member within 10 s
    When the daemon of node0 is frozen
    And the postmaster of node0 is killed
    And a reinitialize is posted to node1
    Then node1's log says "is left as it is" within 20 s
    And `test -s LABDATA/global/pg_control` succeeds in node1's directory
    And node1's log does not say "Removing data directory"
    And node1 leads within 60 s
    And the row "kept" is on node1 within 5 s

  @ours
  Scenario: files that do not answer, under a replica and under its daemon
    Given a running cluster of 2 members
    When the whole node of node1 is killed
    And `mv LABDATA/PG_VERSION LABDATA/PG_VERSION.away; mkfifo -m 600 LABDATA/PG_VERSION` is run in node1's directory
    And node1 is started
    Then node0 leads within 5 s
    When `rm LABDATA/PG_VERSION; mv LABDATA/PG_VERSION.away LABDATA/PG_VERSION` is run in node1's directory
    Then node1 follows node0 within 120 s
