// Compares what the judges of MCP found twice: every check that the first server passed, the second has to pass.
// Usage: node conformance-compare.js DIRECTORY DIRECTORY REVISION
const fs = require('fs');
const path = require('path');

/** Returns how often each check of each scenario was passed, and how many others there were. */
function passed(directory) {
  const all = new Map();
  for (const run of fs.existsSync(directory) ? fs.readdirSync(directory) : []) {
    const file = path.join(directory, run, 'checks.json');
    if (!fs.existsSync(file)) continue;
    // A directory is named by its scenario and the time.
    const scenario = run.replace(/-\d{4}-\d{2}-\d{2}T.*$/, '');
    for (const check of JSON.parse(fs.readFileSync(file, 'utf8'))) {
      const key = `${scenario}: ${check.id}`;
      const found = all.get(key) ?? { passed: 0, other: [] };
      if (check.status === 'SUCCESS') found.passed += 1;
      else found.other.push(`${check.status} ${check.errorMessage ?? ''}`);
      all.set(key, found);
    }
  }
  return all;
}

const [direct, through, revision] = process.argv.slice(2);
const [first, second] = [passed(direct), passed(through)];
const lost = [];
let count = 0;
for (const [check, { passed: times }] of first) {
  const now = second.get(check);
  count += times;
  if (times > (now?.passed ?? 0)) lost.push(`${check} (${now?.other.join('; ') ?? 'not asked'})`);
}
const failing = [...first].filter(([, { other }]) => other.some((one) => one.startsWith('FAILURE')));
lost.forEach((check) => console.log(`${revision} LOST ${check}`));
console.log(`${revision}: ${count} checks passed directly, ${lost.length} kinds of them lost; ${failing.length} kinds fail directly, too`);
process.exit(count > 0 && lost.length === 0 ? 0 : 1);
