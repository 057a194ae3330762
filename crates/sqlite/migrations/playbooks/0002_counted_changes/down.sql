DROP TRIGGER playbook_catalog_stamp_delete;
DROP TRIGGER playbook_catalog_stamp_update;
CREATE TRIGGER playbook_catalog_stamp_update AFTER UPDATE OF status, is_latest_version, embedding ON playbook_catalog
BEGIN UPDATE playbook_catalog_stamp SET changes = changes + 1; END;
