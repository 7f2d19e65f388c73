SELECT view_name, refreshed_at, sessions
FROM shows.refresh_status
