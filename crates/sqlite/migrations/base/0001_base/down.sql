DROP TABLE _migrations;
