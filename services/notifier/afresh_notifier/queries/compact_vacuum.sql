VACUUM (INDEX_CLEANUP ON) afresh.change_log
