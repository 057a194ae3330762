-- description: changes of the catalog are counted when a search can see them, and only then
-- The count begins anywhere, so that a catalog that was made anew is not taken for the one before.
UPDATE playbook_catalog_stamp SET changes = abs(random() % 1000000000000000);
DROP TRIGGER playbook_catalog_stamp_update;
CREATE TRIGGER playbook_catalog_stamp_update AFTER UPDATE ON playbook_catalog
WHEN NEW.status IS NOT OLD.status OR NEW.is_latest_version IS NOT OLD.is_latest_version
  OR NEW.embedding IS NOT OLD.embedding OR NEW.labels IS NOT OLD.labels OR NEW.version IS NOT OLD.version
  OR NEW.playbook_id IS NOT OLD.playbook_id OR NEW.tenant_id IS NOT OLD.tenant_id
BEGIN UPDATE playbook_catalog_stamp SET changes = changes + 1; END;
CREATE TRIGGER playbook_catalog_stamp_delete AFTER DELETE ON playbook_catalog
BEGIN UPDATE playbook_catalog_stamp SET changes = changes + 1; END;
