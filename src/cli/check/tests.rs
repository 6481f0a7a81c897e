mod promtool;
