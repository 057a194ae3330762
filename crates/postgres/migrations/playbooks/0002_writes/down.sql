DROP FUNCTION playbook_store.change;
DROP FUNCTION playbook_store.put;
DROP FUNCTION playbook_store.begin_write(text);
DROP FUNCTION playbook_store.set_tenant(text);
