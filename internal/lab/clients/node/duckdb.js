// Runs a query of DuckDB and prints the rows as JSON.
//   node duckdb.js SQL
import { DuckDBInstance } from '@duckdb/node-api'

const connection = await (await DuckDBInstance.create(':memory:')).connect()
const reader = await connection.runAndReadAll(process.argv[2])
console.log(JSON.stringify(reader.getRowObjectsJson()))
