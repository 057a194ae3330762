-- removes-records
DROP SCHEMA cutover CASCADE;
