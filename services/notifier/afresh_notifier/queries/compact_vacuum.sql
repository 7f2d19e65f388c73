VACUUM (TRUNCATE) afresh.change_log
