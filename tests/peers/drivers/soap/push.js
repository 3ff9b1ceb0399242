// Pushes by npm's soap: WSDL PROFILE FEED TOKEN FILE. Prints what came back as JSON.
const fs = require('fs');
const soap = require('soap');
const [wsdl, profile, feed, token, file] = process.argv.slice(2);
const rows = JSON.parse(fs.readFileSync(file, 'utf8'));
const list = (one) => (Array.isArray(one) ? one : [one]);

(async () => {
  const client = await soap.createClientAsync(wsdl);
  try {
    if (profile === 'records') {
      const [answer] = await client.submitAsync({ token, record: rows });
      const result = answer.result;
      const first = list(result.finding).find((one) => one.level === 'error');
      console.log(JSON.stringify({ total: Number(result.total), refused: Number(result.refused),
        row: Number(first.row), rule: first.rule, signed: Boolean(result.signature) }));
    } else {
      client.setSecurity(new soap.BasicAuthSecurity(feed, token));
      const [answer] = await client.executeAsync({ json: JSON.stringify({ tableCode: 'T1', body: rows }) });
      const text = answer.return.$value || answer.return;
      const said = JSON.parse(text);
      const first = said.errorBody.find((row) => row.errors.some((one) => one.level === 'error'));
      console.log(JSON.stringify({ total: said.totalSize, refused: said.errorSize,
        row: first.rowNum, rule: first.errors[0].rule, signed: Boolean(said.signature) }));
    }
  } catch (error) {
    const body = error.root && error.root.Envelope.Body.Fault;
    if (!body) throw error;
    console.log(JSON.stringify({ fault: String(body.faultstring) }));
  }
})().catch((error) => { console.error(String(error)); process.exit(1); });
